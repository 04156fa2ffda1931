"""What needs no judge: completions that are empty, that end within a thought, or that are too long to be shown."""

import unicodedata
from typing import Literal, Protocol

from dar_jax.judging.questions.thoughts import Thinking, without_thoughts
from dar_jax.records import Completion, Distribution, Verdict

# A word said so often and nothing else is a loop, not a completion.
_LOOP = 8


class Bounds(Thinking, Protocol):
    """What a rule needs to know of a judge."""

    @property
    def levels(self) -> int:
        """How many levels there are."""
        ...

    @property
    def max_completion_chars(self) -> int:
        """The longest completion shown whole."""
        ...

    @property
    def too_long(self) -> Literal["cut", "refuse"]:
        """What becomes of a longer one."""
        ...


def by_rule(completion: Completion, bounds: Bounds) -> Verdict | None:
    """Return the verdict that needs no judge, if any: of an empty answer the lowest level."""
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
    """Give the verdict of a completion that is too long to be shown, if it is."""
    if bounds.too_long == "refuse" and len(text) > bounds.max_completion_chars:
        reason = f"{len(text)} characters; judge.max_completion_chars is {bounds.max_completion_chars}"
        return Verdict(status="failed", provenance="rule", reason=reason, cost_usd=0.0)
    return None


def is_degenerate(text: str) -> bool:
    """Say whether a completion holds nothing to judge: only white space, control or punctuation characters
    (":" and the like are known to win over judges), or one word over and over.
    """
    if all(unicodedata.category(character)[0] in "ZCP" for character in text):
        return True
    words = text.split()
    return len(words) >= _LOOP and len(set(words)) == 1


def cut(text: str, longest: int) -> tuple[str, int]:
    """Return at most `longest` characters and how many are missing."""
    return text[:longest], max(0, len(text) - longest)
