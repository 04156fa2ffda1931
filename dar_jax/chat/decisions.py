"""Typed decisions: how scores are asked for and their answers read. Three protocols, one meaning:

    OpenAI      /v1/decisions        a list of questions, a list of answers, each probability with its level's label
    systemone   /v1/systemone        a map of both, probabilities keyed by the level's index (transformers serve, vLLM)
    Gemini      /v1beta/decisions    the same with the filters' feedback

`score` and `confidence` are never looked at: servers mean different things by the latter. An answer counts whole or not
at all: one with a level missing, a level too many or another name is no answer to the question.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pydantic
from pydantic import TypeAdapter

from dar_jax.chat.errors import NotAnAnswer
from dar_jax.chat.status import short
from dar_jax.chat.wire import Answer, Choice, Request, Score
from dar_jax.records import Usage

# How far above 1 a probability may be rounded.
_ROUNDING = 1e-3


def listed(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Write the questions as OpenAI takes them."""
    return [
        {
            "type": "score",
            "name": score.name,
            "instructions": score.instructions,
            "levels": [
                {"label": level.label} | ({"description": level.description} if level.description else {})
                for level in score.levels
            ],
        }
        for score in scores
    ]


def mapped(scores: Sequence[Score]) -> dict[str, dict[str, Any]]:
    """Write the questions as systemone and Gemini take them."""
    return {
        score.name: {
            "type": "score",
            "instructions": score.instructions,
            "criteria": [str(level) for level in score.levels],
        }
        for score in scores
    }


def asked_about(request: Request) -> str:
    """Put what the questions are about into one text."""
    return "\n\n".join(message.content for message in request.messages)


@pydantic.dataclasses.dataclass(frozen=True)
class _Probability:
    probability: float
    label: str | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _Listed:
    type: str
    name: str | None = None
    probabilities: list[_Probability] | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _Mapped:
    type: str
    probabilities: dict[str, float] | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _Cached:
    cached_tokens: int | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _Usage:
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Cached | None = None
    total_input_tokens: int | None = None
    total_cached_tokens: int | None = None
    total_output_tokens: int | None = None
    total_thought_tokens: int | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _Feedback:
    block_reason: str | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _Diagnostics:
    label_mass: float | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _ListedReply:
    answers: list[_Listed]
    model: str | None = None
    usage: _Usage | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _MappedReply:
    answers: dict[str, _Mapped] | None = None
    model: str | None = None
    usage: _Usage | None = None
    prompt_feedback: _Feedback | None = None
    diagnostics: dict[str, _Diagnostics] | None = None


_LISTED, _MAPPED = TypeAdapter(_ListedReply), TypeAdapter(_MappedReply)


def read_listed(body: str, request: Request) -> Answer:
    """Read the body of OpenAI's decision. Raises NotAnAnswer on anything else."""
    try:
        reply = _LISTED.validate_json(body)
    except pydantic.ValidationError:
        raise NotAnAnswer(f"HTTP 200, but no decision: {short(body)!r}") from None
    names = [answer.name for answer in reply.answers]
    found = {answer.name: answer for answer in reply.answers if names.count(answer.name) == 1}
    choices = []
    for score in request.scores if reply.answers else ():
        answer = found.get(score.name)
        given = {each.label or "": each.probability for each in answer.probabilities or ()} if answer else {}
        labels = [level.label for level in score.levels]
        twice = answer is not None and len(given) != len(answer.probabilities or ())
        choices.append(_choice(score, answer.type if answer else None, None if twice else _ordered(given, labels)))
    return Answer(choices=tuple(choices), served_model=reply.model or "", usage=_usage(reply.usage), raw=body)


def read_mapped(body: str, request: Request) -> Answer:
    """Read the body of a systemone or Gemini decision. Raises NotAnAnswer on anything else."""
    try:
        reply = _MAPPED.validate_json(body)
    except pydantic.ValidationError:
        raise NotAnAnswer(f"HTTP 200, but no decision: {short(body)!r}") from None
    blocked = reply.prompt_feedback and reply.prompt_feedback.block_reason
    if reply.answers is None and not blocked:
        raise NotAnAnswer(f"HTTP 200, but no decision: {short(body)!r}")
    choices = []
    for score in request.scores if reply.answers else ():
        answer = (reply.answers or {}).get(score.name)
        indices = [str(index) for index in range(len(score.levels))]
        probabilities = _ordered(answer.probabilities or {}, indices) if answer else None
        mass = (reply.diagnostics or {}).get(score.name, _Diagnostics()).label_mass
        choices.append(_choice(score, answer.type if answer else None, probabilities, 1.0 if mass is None else mass))
    return Answer(
        choices=tuple(choices),
        served_model=reply.model or "",
        usage=_usage(reply.usage),
        blocked=str(blocked or ""),
        raw=body,
    )


def _ordered(given: Mapping[str, float], keys: Sequence[str]) -> tuple[float, ...] | None:
    """Put probabilities into the order of their keys; None where they are not those of exactly these keys."""
    if set(given) != set(keys) or not all(0.0 <= value <= 1.0 + _ROUNDING for value in given.values()):
        return None
    return tuple(given[key] for key in keys)


def _choice(score: Score, kind: str | None, probabilities: tuple[float, ...] | None, mass: float = 1.0) -> Choice:
    if kind == "refusal":
        return Choice(text=None, finish="refusal", finish_name="refusal")
    if kind != "score":
        return Choice(text=None, finish="unknown", finish_name=kind or "no answer")
    if probabilities is None or not 0.0 <= mass <= 1.0 + _ROUNDING:
        return Choice(text=None, finish="stop", finish_name="score")
    likeliest = score.levels[probabilities.index(max(probabilities))]
    shares = tuple(value * mass for value in probabilities)
    return Choice(text=likeliest.label, finish="stop", finish_name="score", probabilities=shares)


def _usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    if usage.total_input_tokens is not None:
        return Usage(
            input_tokens=usage.total_input_tokens,
            cached_tokens=usage.total_cached_tokens or 0,
            output_tokens=(usage.total_output_tokens or 0) + (usage.total_thought_tokens or 0),
        )
    if usage.input_tokens is None:
        return None
    cached = usage.input_tokens_details.cached_tokens if usage.input_tokens_details else None
    return Usage(input_tokens=usage.input_tokens, cached_tokens=cached or 0, output_tokens=usage.output_tokens or 0)
