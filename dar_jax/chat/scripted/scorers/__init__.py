"""The rules by which a scripted model scores a completion.

A scorer is a pure function of two texts; its result is 1.0 to 10.0, also between levels:

    def score(prompt: str, completion: str) -> float

To add one, write it in a module of this folder and add it to `SCORERS`.
"""

from collections.abc import Callable, Mapping

from dar_jax.chat.scripted.scorers import minitldr, overlap

Scorer = Callable[[str, str], float]

SCORERS: Mapping[str, Scorer] = {
    "minitldr": minitldr.score,
    "overlap": overlap.score,
}
