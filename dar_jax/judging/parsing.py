"""From an answer to a distribution over levels, or to the reason why there is none.

Only a whole reply counts: a digit alone, or the JSON object {"score": digit}. "8/10", "80", "-3" and prose
around a number are unparsable, never a guess.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dar_jax.chat.wire import SCORE, Answer, Choice
from dar_jax.judging.indices import stray_index
from dar_jax.judging.protocol import Protocol
from dar_jax.records import Distribution, Status

Mode = Literal["logprobs", "single", "samples"]

_LONGEST_EXAMPLE = 120
_OBJECT = re.compile(rf'\{{\s*"{SCORE}"\s*:\s*(?:"(?P<text>[0-9])"|(?P<number>[0-9]))\s*\}}')
_STATUS: dict[str, Status] = {"length": "truncated", "refusal": "refused", "blocked": "blocked"}


@dataclass(frozen=True, kw_only=True)
class Unusable:
    """Why an answer gives no reward."""

    status: Status
    reason: str


def read(answer: Answer, protocol: Protocol, mode: Mode, mass_floor: float, asked: int = 1) -> Distribution | Unusable:
    """Read an answer to `asked` choices; a distribution holds at least `mass_floor` of the judge's belief."""
    if answer.blocked:
        return Unusable(status="blocked", reason=f"the server blocked the question: {answer.blocked}")
    if not answer.choices:
        return Unusable(status="unparsable", reason="the answer holds no choice")
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


def read_choice(choice: Choice, labels: Sequence[str]) -> int | Unusable:
    """Return which label a choice names: the whole reply or nothing."""
    if choice.finish != "stop":
        status = _STATUS.get(choice.finish, "unparsable")
        return Unusable(status=status, reason=f"finish reason {choice.finish_name!r}, reply {example(choice.text)}")
    label = grammar(choice.text or "")
    if label is None or label not in labels:
        wanted = f"one of {labels[0]}..{labels[-1]}"
        return Unusable(status="unparsable", reason=f"reply {example(choice.text)} is not {wanted}")
    return labels.index(label)


def grammar(text: str) -> str | None:
    """Return the digit that a reply consists of, None for any other reply."""
    bare = text.strip(" \t\r\n")
    if len(bare) == 1 and bare in "0123456789":
        return bare
    matched = _OBJECT.fullmatch(bare)
    return None if matched is None else matched["text"] or matched["number"]


def example(text: str | None) -> str:
    """Quote a reply for a person, shortened."""
    if text is None:
        return "(no text)"
    shown = text if len(text) <= _LONGEST_EXAMPLE else text[:_LONGEST_EXAMPLE] + "..."
    return repr(shown)


def _certain(label: int, protocol: Protocol) -> Distribution:
    probabilities = [0.0] * protocol.count
    probabilities[label] = 1.0
    return Distribution(levels=protocol.levels, probabilities=tuple(probabilities))


def _expected(choice: Choice, protocol: Protocol, mass_floor: float) -> Distribution | Unusable:
    if choice.top is None:
        reason = f"reply {example(choice.text)} without log-probabilities; set judge.mode to samples or single"
        return Unusable(status="unparsable", reason=reason)
    mass = [0.0] * protocol.count
    for alternative in choice.top:
        # " 7" and "7" are one answer; anything longer is not.
        label = alternative.token.strip(" \t\r\n\u0120\u2581")
        if label in protocol.labels:
            mass[protocol.labels.index(label)] += math.exp(alternative.logprob)
    return _normalised(mass, protocol, mass_floor, f"of the probability is on the levels, reply {example(choice.text)}")


def _average(choices: Sequence[Choice], protocol: Protocol, mass_floor: float, asked: int) -> Distribution | Unusable:
    labels = [read_choice(choice, protocol.labels) for choice in choices]
    usable = [label for label in labels if not isinstance(label, Unusable)]
    if not usable:
        return next(label for label in labels if isinstance(label, Unusable))
    mass = [usable.count(label) / max(asked, len(choices)) for label in range(protocol.count)]
    return _normalised(mass, protocol, mass_floor, f"of the {asked} answers asked for are usable, {len(choices)} came")


def _normalised(mass: list[float], protocol: Protocol, mass_floor: float, what: str) -> Distribution | Unusable:
    total = sum(mass)
    if not total >= mass_floor or total <= 0.0:
        reason = f"only {total:.0%} {what}; judge.mass_floor is {mass_floor:.0%}"
        return Unusable(status="unparsable", reason=reason)
    probabilities = tuple(value / total for value in mass)
    return Distribution(levels=protocol.levels, probabilities=probabilities, mass=min(1.0, total))
