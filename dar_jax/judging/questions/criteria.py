"""Criteria: several qualities judged by one question each, and their weighted mean."""

from collections.abc import Sequence

from pydantic import Field
from pydantic.dataclasses import dataclass

from dar_jax.settings.fields import STRICT, Name, Positive, Prose


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Criterion:
    """One quality: what to look for, and its weight in the reward."""

    name: Name = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")
    instructions: Prose
    weight: Positive = 1.0

    @property
    def rubric(self) -> str:
        """Return the rubric of this criterion's question."""
        return (
            f"You grade one quality of a completion of a prompt, {self.name}, and nothing else about it.\n\n"
            f"{self.instructions.strip()}"
        )


def repeated(criteria: Sequence[Criterion]) -> list[str]:
    """Return the names that occur twice."""
    names = [criterion.name for criterion in criteria]
    return sorted({name for name in names if names.count(name) > 1})
