"""What the algorithms that learn from recorded completions have in common."""

from typing import ClassVar

from pydantic.dataclasses import dataclass

from dar_jax.algorithms.own import Forgetful
from dar_jax.settings.fields import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recorded(Forgetful):
    """The declarations of an offline algorithm: an example a prompt, no judge, no sampler."""

    needs: ClassVar[frozenset[str]] = frozenset()
    rows_per_example: ClassVar[int] = 1

    def reject_group_size(self, group_size: int) -> str | None:
        """Any group size will do: none is sampled."""
        return None

    def examples(self, prompts: int, group_size: int) -> int:
        """Count one example a prompt."""
        return prompts
