"""Parse an answer into a distribution over levels, or into the reason why there is none.

The question is read from the request as stored in the ledger, so that stored and fresh answers are parsed alike. Only a
whole reply counts: a single digit, or the JSON object {"score": digit}. "8/10", "80", "-3" and text around a number are
unparsable, never guessed.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dar_jax.chat.wire import BLANK, SCORE, Answer, AnswerChoice
from dar_jax.judging.questions.preference_question import FIRST, SECOND
from dar_jax.judging.questions.protocol import Protocol, Scale
from dar_jax.records import Distribution, Status

# Finest first: how well answers separate two completions.
Mode = Literal["decision", "logprobs", "samples", "single"]

# The preference for the first of two completions.
_PREFERENCE = Scale((SECOND, FIRST), (0.0, 1.0))
_LONGEST_EXAMPLE = 120
_OBJECT = re.compile(rf'\{{\s*"{SCORE}"\s*:\s*(?:"(?P<text>[0-9])"|(?P<number>[0-9]))\s*\}}')
# Servers round probabilities: their sum may exceed 1 by this.
_ROUNDING = 0.02
_STATUS: dict[str, Status] = {"length": "truncated", "refusal": "refused", "blocked": "blocked"}


# The values of a question's labels.
Answers = Scale | Protocol


@dataclass(frozen=True, kw_only=True)
class Unusable:
    """The reason why an answer gives no reward."""

    status: Status
    reason: str


def read_as_asked(answer: Answer, request: Mapping[str, Any], mass_floor: float) -> Distribution | Unusable:
    """Parse an answer to a request (`Request.to_plain`). Raises ValueError, KeyError or TypeError for a broken one."""
    if scores := request.get("scores"):
        return read_scores(answer, scores, mass_floor)
    if not (labels := request["choices"]):
        raise ValueError("the request asked for no level")
    return read(answer, scale_of(labels), mode_of(request), mass_floor, int(request["n"]))


def scale_of(labels: Sequence[str]) -> Answers:
    """Return the values of a question's labels, whatever their order."""
    if sorted(labels) == [FIRST, SECOND]:
        return _PREFERENCE
    return Protocol(rubric="", count=len(labels))


def prose(answer: Answer) -> str | Unusable:
    """Return the text of an answer that should be prose."""
    if lacking := _without_choice(answer) or _unended(answer.choices[0]):
        return lacking
    choice = answer.choices[0]
    if not (text := (choice.text or "").strip()):
        return Unusable(status="unparsable", reason="there are none")
    return text


def mode_of(request: Mapping[str, Any]) -> Mode:
    """Return the answer mode of a request."""
    if request.get("scores"):
        return "decision"
    if request["top_logprobs"]:
        return "logprobs"
    # Only sampled answers need a seed.
    return "single" if request["seed"] is None else "samples"


def read_scores(answer: Answer, scores: Sequence[Mapping[str, Any]], mass_floor: float) -> Distribution | Unusable:
    """Return the weighted mean of the answers to typed scores; no reward if one is missing."""
    if lacking := _without_answer(answer):
        return lacking
    if len(answer.choices) != len(scores):
        reason = f"{len(answer.choices)} of {len(scores)} questions were answered"
        return Unusable(status="unparsable", reason=reason)
    found = []
    for choice, score in zip(answer.choices, scores, strict=True):
        one = _scored(choice, score, mass_floor)
        if isinstance(one, Unusable):
            return Unusable(status=one.status, reason=f"question {score['name']!r}: {one.reason}")
        found.append((one, float(score["weight"])))
    return mixture(found)


def mixture(parts: Sequence[tuple[Distribution, float]]) -> Distribution:
    """Return the weighted mean of distributions over the same levels."""
    total = sum(weight for _, weight in parts)
    shares = [(each, weight / total) for each, weight in parts]
    levels = parts[0][0].levels
    if any(each.levels != levels for each, _ in parts):
        raise ValueError("distributions over other levels cannot be averaged")
    columns = zip(*(each.probabilities for each, _ in shares), strict=True)
    return Distribution(
        levels=levels,
        probabilities=tuple(sum(p * share for p, (_, share) in zip(ps, shares, strict=True)) for ps in columns),
        mass=sum(each.mass * share for each, share in shares),
    )


def read(answer: Answer, protocol: Answers, mode: Mode, mass_floor: float, asked: int = 1) -> Distribution | Unusable:
    """Parse an answer with `asked` choices; at least `mass_floor` of the probability must be on the levels."""
    if lacking := _without_choice(answer):
        return lacking
    if stray := stray_index(answer.choices, asked):
        return Unusable(status="unparsable", reason=stray)
    if mode == "samples":
        return _average(answer.choices, protocol, mass_floor, asked)
    label = read_choice(answer.choices[0], protocol.labels)
    if isinstance(label, Unusable):
        return label
    if mode == "single":
        return _certain(label, protocol)
    return _expected(answer.choices[0], protocol, mass_floor)


def read_choice(choice: AnswerChoice, labels: Sequence[str]) -> int | Unusable:
    """Return the label that a choice consists of, as a whole reply."""
    if unended := _unended(choice):
        return unended
    label = grammar(choice.text or "")
    if label is None or label not in labels:
        wanted = f"one of {min(labels)}..{max(labels)}"
        return Unusable(status="unparsable", reason=f"reply {example(choice.text)} is not {wanted}")
    return labels.index(label)


def grammar(text: str) -> str | None:
    """Return the digit that a reply consists of, else None."""
    bare = text.strip(" \t\r\n")
    if len(bare) == 1 and bare in "0123456789":
        return bare
    matched = _OBJECT.fullmatch(bare)
    return None if matched is None else matched["text"] or matched["number"]


def example(text: str | None) -> str:
    """Return a reply quoted and shortened for a message."""
    if text is None:
        return "(no text)"
    shown = text if len(text) <= _LONGEST_EXAMPLE else text[:_LONGEST_EXAMPLE] + "..."
    return repr(shown)


def _without_answer(answer: Answer) -> Unusable | None:
    if answer.blocked:
        return Unusable(status="blocked", reason=f"the server blocked the question: {answer.blocked}")
    if answer.unreadable:
        return Unusable(status="unparsable", reason=f"the reply cannot be read: {answer.unreadable}")
    return None


def _without_choice(answer: Answer) -> Unusable | None:
    if lacking := _without_answer(answer):
        return lacking
    return None if answer.choices else Unusable(status="unparsable", reason="the answer holds no choice")


def _unended(choice: AnswerChoice) -> Unusable | None:
    if choice.finish == "stop":
        return None
    reason = f"finish reason {choice.finish_name!r}, reply {example(choice.text)}"
    return Unusable(status=_STATUS.get(choice.finish, "unparsable"), reason=reason)


def _scored(choice: AnswerChoice, score: Mapping[str, Any], mass_floor: float) -> Distribution | Unusable:
    if choice.finish != "stop":
        status = _STATUS.get(choice.finish, "unparsable")
        return Unusable(status=status, reason=f"answered by {choice.finish_name!r}")
    labels = [level["label"] for level in score["levels"]]
    protocol = scale_of(labels)
    if choice.probabilities is None or sorted(labels) != sorted(protocol.labels):
        return Unusable(status="unparsable", reason="no probabilities of exactly the levels asked about")
    if overfull := _overfull(sum(choice.probabilities)):
        return overfull
    shares = dict(zip(labels, choice.probabilities, strict=True))
    mass = [shares[label] for label in protocol.labels]
    return _normalised(mass, protocol, mass_floor, "of the probability is on the levels")


def _certain(label: int, protocol: Answers) -> Distribution:
    probabilities = [0.0] * protocol.count
    probabilities[label] = 1.0
    return Distribution(levels=protocol.levels, probabilities=tuple(probabilities))


def _expected(choice: AnswerChoice, protocol: Answers, mass_floor: float) -> Distribution | Unusable:
    if choice.top is None:
        reason = f"reply {example(choice.text)} without log-probabilities; set judge.mode to samples or single"
        return Unusable(status="unparsable", reason=reason)
    shares: dict[str | None, float] = {}
    for each in choice.top:
        # " 7" and "7" are the same answer; anything longer is none.
        token = each.token.strip(BLANK)
        shares[token] = shares.get(token, 0.0) + math.exp(each.logprob)
    if grammar(choice.text or "") not in shares:
        reason = f"log-probabilities of other tokens than the reply's, reply {example(choice.text)}"
        return Unusable(status="unparsable", reason=reason)
    if overfull := _overfull(sum(shares.values())):
        return overfull
    mass = [shares.get(label, 0.0) for label in protocol.labels]
    return _normalised(mass, protocol, mass_floor, f"of the probability is on the levels, reply {example(choice.text)}")


def _average(
    choices: Sequence[AnswerChoice], protocol: Answers, mass_floor: float, asked: int
) -> Distribution | Unusable:
    labels = [read_choice(choice, protocol.labels) for choice in choices]
    usable = [label for label in labels if not isinstance(label, Unusable)]
    if not usable:
        return next(label for label in labels if isinstance(label, Unusable))
    mass = [usable.count(label) / max(asked, len(choices)) for label in range(protocol.count)]
    return _normalised(mass, protocol, mass_floor, f"of the {asked} answers asked for are usable, {len(choices)} came")


def _overfull(total: float) -> Unusable | None:
    if total <= 1.0 + _ROUNDING:
        return None
    return Unusable(status="unparsable", reason=f"probabilities that sum to {total:.3g}, which is no distribution")


def _normalised(mass: list[float], protocol: Answers, mass_floor: float, what: str) -> Distribution | Unusable:
    total = sum(mass)
    if not total >= mass_floor or total <= 0.0:
        reason = f"only {total:.0%} {what}; judge.mass_floor is {mass_floor:.0%}"
        return Unusable(status="unparsable", reason=reason)
    probabilities = tuple(value / total for value in mass)
    return Distribution(levels=protocol.levels, probabilities=probabilities, mass=min(1.0, total))


def stray_index(choices: Sequence[AnswerChoice], asked: int) -> str:
    """Return which of the choices was repeated or not among the `asked` ones, else None.

    Choices without an index pass, as Gemini may omit it: they answer one question, and their order does not matter.
    """
    given = [choice.index for choice in choices if choice.index is not None]
    strays = [index for index in given if not 0 <= index < asked]
    if strays:
        return f"the answer holds choice {strays[0]}, but {asked} asked for end at {asked - 1}"
    repeated = [index for index in given if given.count(index) > 1]
    return f"the answer holds choice {repeated[0]} more than once" if repeated else ""
