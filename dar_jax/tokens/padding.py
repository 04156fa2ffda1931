"""Rows of token ids as arrays of one length."""

from collections.abc import Sequence
from typing import Literal

import numpy as np


def pad(
    rows: Sequence[Sequence[int]],
    pad_id: int,
    *,
    side: Literal["left", "right"],
    length: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pad rows to `length` or the longest: int32 `token_BT`, bool `mask_BT` (True at real tokens).

    The mask comes from the lengths, never from the ids. Raises ValueError for a row longer than
    `length`.
    """
    longest = max(map(len, rows), default=0)
    width = longest if length is None else length
    if longest > width:
        raise ValueError(f"a row of {longest} tokens does not fit a length of {width}")
    token_BT = np.full((len(rows), width), pad_id, np.int32)
    mask_BT = np.zeros((len(rows), width), bool)
    for b, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        token_BT[b, place] = row
        mask_BT[b, place] = True
    return token_BT, mask_BT
