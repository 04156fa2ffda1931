"""A mini TL;DR: posts from a grammar, flawed summaries to start from, made on the fly and always the same.

`python -m dar_jax.data.minitldr FOLDER` writes the tokenizer, as it stands in `assets/minitldr`.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from dar_jax.data.minitldr.grammar import row, row_of_pairs, summary
from dar_jax.data.source import Source
from dar_jax.settings.fields import STRICT, Count, CountOrZero

__all__ = ["MiniTldr", "row", "summary"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MiniTldr:
    """The mini TL;DR: `size` posts, and the summaries of careless writers as demonstrations.

    A larger set begins with the rows of a smaller one; `train` and `test` are drawn from seeds of their own. With
    `pairs` each row has, as `chosen` and `rejected`, two careless writers' summaries, ordered by the exact score.
    """

    name: Literal["minitldr"] = "minitldr"
    split: Literal["train", "test"] = "train"
    size: Count = 10_000
    seed: CountOrZero = 0
    pairs: bool = False

    def load(self) -> Source:
        """Open the set; rows are written when they are asked for."""
        columns = ("prompt", "completion", *(("chosen", "rejected") if self.pairs else ()))
        return Source(rows=_Rows(self), where="mini TL;DR", split=self.split, columns=columns)


class _Rows:
    def __init__(self, settings: MiniTldr) -> None:
        self._settings = settings

    def __len__(self) -> int:
        return self._settings.size

    def __getitem__(self, number: int) -> Mapping[str, Any]:
        settings = self._settings
        write = row_of_pairs if settings.pairs else row
        return write(settings.seed, settings.split, number)
