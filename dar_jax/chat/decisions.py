"""Typed decisions, an optional part of the wires: requests for scores and their answers, in three protocols:

    OpenAI      /v1/decisions        a list of questions, a list of answers, each probability with its level's label
    systemone   /v1/systemone        a map of both, probabilities keyed by the level's index (transformers serve, vLLM)
    Gemini      /v1beta/decisions    the same with the filters' feedback

`score` and `confidence` are not used: servers define the latter differently. An answer with a missing, extra or renamed
level does not count.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pydantic
from pydantic import TypeAdapter

from dar_jax.chat.failures import NotAnAnswer, shorten
from dar_jax.chat.reply import Misfit, build_answer, decision_usage, parse_reply
from dar_jax.chat.wire import Answer, AnswerChoice, Request, Score

# How far above 1 a probability may be rounded.
_ROUNDING = 1e-3


def body_of(path: str, request: Request) -> dict[str, Any]:
    """Return a request as the body for OpenAI's `decisions` or for `systemone`, without the model."""
    if path == "decisions":
        return {"input": data_of(request), "questions": [_listed(score) for score in request.scores]}
    return {"state": data_of(request), "questions": mapped(request.scores)}


def read(path: str, body: str, request: Request) -> Answer:
    """Return the answer in a response of `decisions` or `systemone`. Raises NotAnAnswer."""
    return read_listed(body, request) if path == "decisions" else read_mapped(body, request)


def data_of(request: Request) -> str:
    """Return the data of the questions as one text."""
    return "\n\n".join(message.content for message in request.messages)


def mapped(scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """Return the questions in the format of systemone and Gemini."""
    return {
        score.name: {
            "type": "score",
            "instructions": score.instructions,
            "criteria": [str(level) for level in score.levels],
        }
        for score in scores
    }


def _listed(score: Score) -> dict[str, Any]:
    """Return a question in OpenAI's format."""
    levels = [
        {"label": level.label} | ({"description": level.description} if level.description else {})
        for level in score.levels
    ]
    return {"type": "score", "name": score.name, "instructions": score.instructions, "levels": levels}


@pydantic.dataclasses.dataclass(frozen=True)
class _Probability:
    probability: float
    label: str | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _ListedAnswer:
    type: str
    name: str | None = None
    probabilities: list[_Probability] | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _MappedAnswer:
    type: str
    probabilities: dict[str, float] | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _Feedback:
    block_reason: str | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _Diagnostics:
    label_mass: float | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _ListedReply:
    answers: list[_ListedAnswer]
    model: Any = None
    usage: Any = None


@pydantic.dataclasses.dataclass(frozen=True)
class _MappedReply:
    answers: dict[str, _MappedAnswer] | None = None
    model: Any = None
    usage: Any = None
    prompt_feedback: _Feedback | None = None
    diagnostics: dict[str, _Diagnostics] | None = None


_LISTED, _MAPPED = TypeAdapter(_ListedReply), TypeAdapter(_MappedReply)


def read_listed(body: str, request: Request) -> Answer:
    """Return the answer in a response of OpenAI's decisions. Raises NotAnAnswer if it is not a decision."""
    reply = parse_reply(_LISTED, body, "answers")
    if isinstance(reply, Misfit):
        return _unreadable(reply, body)
    names = [answer.name for answer in reply.answers]
    found = {answer.name: answer for answer in reply.answers if names.count(answer.name) == 1}
    choices = []
    for score in request.scores if reply.answers else ():
        answer = found.get(score.name)
        given = {each.label or "": each.probability for each in answer.probabilities or ()} if answer else {}
        labels = [level.label for level in score.levels]
        repeated = answer is not None and len(given) != len(answer.probabilities or ())
        choices.append(_choice(score, answer.type if answer else None, None if repeated else _ordered(given, labels)))
    return build_answer(body, decision_usage(reply.usage), reply.model, choices)


def read_mapped(body: str, request: Request) -> Answer:
    """Return the answer in a response of systemone or Gemini. Raises NotAnAnswer if it is not a decision."""
    reply = parse_reply(_MAPPED, body, "answers")
    if isinstance(reply, Misfit):
        return _unreadable(reply, body)
    blocked = reply.prompt_feedback and reply.prompt_feedback.block_reason
    if reply.answers is None and not (blocked or reply.usage):
        raise _no_decision(body)
    choices = []
    for score in request.scores if reply.answers else ():
        answer = (reply.answers or {}).get(score.name)
        indices = [str(index) for index in range(len(score.levels))]
        probabilities = _ordered(answer.probabilities or {}, indices) if answer else None
        mass = (reply.diagnostics or {}).get(score.name, _Diagnostics()).label_mass
        choices.append(_choice(score, answer.type if answer else None, probabilities, 1.0 if mass is None else mass))
    return build_answer(body, decision_usage(reply.usage), reply.model, choices, blocked=str(blocked or ""))


def _unreadable(reply: Misfit, body: str) -> Answer:
    """Return a decision that cannot be parsed: it is billed. Raises NotAnAnswer if it is not a decision."""
    found = reply.found
    if not (isinstance(found.get("answers"), list | dict) or found.get("usage")):
        raise _no_decision(body)
    return build_answer(body, decision_usage(found.get("usage")), found.get("model"), unreadable=reply.fault)


def _no_decision(body: str) -> NotAnAnswer:
    return NotAnAnswer(f"HTTP 200, but no decision: {shorten(body)!r}")


def _ordered(given: Mapping[str, float], keys: Sequence[str]) -> tuple[float, ...] | None:
    """Return probabilities in the order of the keys; None if the keys differ or a value is not a probability."""
    if set(given) != set(keys) or not all(0.0 <= value <= 1.0 + _ROUNDING for value in given.values()):
        return None
    return tuple(given[key] for key in keys)


def _choice(score: Score, kind: str | None, probabilities: tuple[float, ...] | None, mass: float = 1.0) -> AnswerChoice:
    if kind == "refusal":
        return AnswerChoice(text=None, finish="refusal", finish_name="refusal")
    if kind != "score":
        return AnswerChoice(text=None, finish="unknown", finish_name=kind or "no answer")
    if probabilities is None or not 0.0 <= mass <= 1.0 + _ROUNDING:
        return AnswerChoice(text=None, finish="stop", finish_name="score")
    likeliest = score.levels[probabilities.index(max(probabilities))]
    shares = tuple(value * mass for value in probabilities)
    return AnswerChoice(text=likeliest.label, finish="stop", finish_name="score", probabilities=shares)
