"""Completions that need no judge: empty ones, unfinished thoughts, and too long ones."""

import unicodedata
from typing import Literal, Protocol

from dar_jax.judging.questions.thoughts import Thinking, without_thoughts
from dar_jax.records import Completion, Distribution, Verdict

# A completion of one word repeated this often is a loop.
_LOOP = 8


class Bounds(Thinking, Protocol):
    """The settings of a judge that rules use."""

    @property
    def levels(self) -> int:
        """The number of levels."""
        ...

    @property
    def max_completion_chars(self) -> int:
        """The longest completion that is shown whole, characters."""
        ...

    @property
    def too_long(self) -> Literal["cut", "refuse"]:
        """Whether a longer one is truncated or refused."""
        ...


def by_rule(completion: Completion, bounds: Bounds) -> Verdict | None:
    """Return the verdict of a completion that needs no judge, else None; an empty one gets the lowest level."""
    shown = without_thoughts(completion, bounds)
    if isinstance(shown, Verdict):
        return shown
    text = shown.text
    if is_degenerate(text):
        levels = tuple(float(level + 1) for level in range(bounds.levels))
        floor = Distribution(levels=levels, probabilities=(1.0, *(0.0 for _ in levels[1:])))
        return Verdict(status="ok", distribution=floor, provenance="rule", reason="nothing to judge", cost_usd=0.0)
    return refused(text, bounds)


def refused(text: str, bounds: Bounds) -> Verdict | None:
    """Return the verdict of a completion that is too long to be judged, else None."""
    if bounds.too_long == "refuse" and len(text) > bounds.max_completion_chars:
        reason = f"{len(text)} characters; judge.max_completion_chars is {bounds.max_completion_chars}"
        return Verdict(status="failed", provenance="rule", reason=reason, cost_usd=0.0)
    return None


def is_degenerate(text: str) -> bool:
    """Return whether a completion has nothing to judge: only white space, control or punctuation characters (":" and
    the like are known to fool judges), or one repeated word.
    """
    if all(unicodedata.category(character)[0] in "ZCP" for character in text):
        return True
    words = text.split()
    return len(words) >= _LOOP and len(set(words)) == 1


def cut(text: str, longest: int) -> tuple[str, int]:
    """Return at most `longest` characters, and the number left out."""
    return text[:longest], max(0, len(text) - longest)
