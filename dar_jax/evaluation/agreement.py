"""How far a judge agrees with people on labelled pairs: the paper's first experiment (arXiv 2504.14177).

AI reward scores each completion by itself and prefers the higher; AI preference compares the two. Of both: how often
the judge prefers what people chose, beyond chance, whatever the order and the length, and how sure it was.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dar_jax.evaluation.win_rate import EVEN, mean, wilson_interval
from dar_jax.records import Distribution, Verdict

_BINS = 5


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What a judge thinks of a pair. `won` is 1 where it prefers what people chose, 1/2 where it is even, 0; `belief`
    its probability that this one is better. Of a comparison: whether both orders `agreed`, and the share of the answers
    that `chose_first`. `longer` says whether what people chose is longer, None where both are as long.
    """

    won: float
    belief: float
    agreed: bool | None = None
    chose_first: float | None = None
    longer: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Labels that the judge gave with a confidence from `low` to `high`: how sure it was, how often it was right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The figures of one judge in one label mode. Shares are of the judged pairs; NaN where there is none to speak of.

    `accuracy` counts a tie one half, `low` and `high` are its 95 % Wilson interval. `kappa` is Cohen's (Cohen 1960)
    over first, second and tie, each pair presented both ways, so that chance is (1 - ties) / 2. `flip_rate` is the
    share of pairs whose preferred side changes with the order, `chose_first` the share of answers that named what was
    shown first (1/2: no bias). `longer` and `longer_people` are how often judge and people prefer the longer of two,
    over pairs that differ in length and are no tie; `length_bias` is their difference. `brier` is the mean squared
    distance of `belief` from what people chose.
    """

    pairs: int
    judged: int
    wins: int
    ties: int
    losses: int
    accuracy: float
    low: float
    high: float
    kappa: float
    flip_rate: float
    chose_first: float
    longer: float
    longer_people: float
    length_bias: float
    brier: float
    calibration: tuple[Bin, ...]


def opinion(chosen: Verdict, rejected: Verdict, lengths: tuple[int, int]) -> Opinion | None:
    """Read the verdicts on a pair, of either label mode; None where one has no reward. Lengths in characters."""
    if chosen.distribution is None or rejected.distribution is None:
        return None
    difference = chosen.distribution.mean - rejected.distribution.mean
    belief = chosen.belief
    return Opinion(
        won=0.5 if abs(difference) < EVEN else float(difference > 0),
        belief=_above(chosen.distribution, rejected.distribution) if belief is None else belief,
        agreed=None if chosen.consistency is None else chosen.consistency == 1,
        chose_first=chosen.chose_first,
        longer=None if lengths[0] == lengths[1] else lengths[0] > lengths[1],
    )


def agreement(opinions: Sequence[Opinion | None]) -> Agreement:
    """Sum up a judge's opinions, one a pair; None is a pair that it gave no verdict on."""
    known = [each for each in opinions if each is not None]
    wins, ties = (sum(each.won == side for each in known) for side in (1.0, 0.5))
    accuracy = mean([each.won for each in known])
    low, high = wilson_interval(accuracy, len(known))
    decided = [each for each in known if each.longer is not None and each.won != 0.5]
    longer = mean([each.longer == (each.won == 1.0) for each in decided])
    people = mean([bool(each.longer) for each in decided])
    return Agreement(
        pairs=len(opinions),
        judged=len(known),
        wins=wins,
        ties=ties,
        losses=len(known) - wins - ties,
        accuracy=accuracy,
        low=low,
        high=high,
        kappa=_kappa(wins, ties, len(known)),
        flip_rate=mean([not each.agreed for each in known if each.agreed is not None]),
        chose_first=mean([each.chose_first for each in known if each.chose_first is not None]),
        longer=longer,
        longer_people=people,
        length_bias=longer - people,
        brier=mean([(1.0 - each.belief) ** 2 for each in known]),
        calibration=_calibration(known),
    )


def _kappa(wins: int, ties: int, judged: int) -> float:
    if not judged:
        return math.nan
    observed, chance = wins / judged, (1 - ties / judged) / 2
    return (observed - chance) / (1 - chance)


def _calibration(known: Sequence[Opinion]) -> tuple[Bin, ...]:
    """Divide confidences, from 1/2 to 1, into equal bins; an even belief is right half the time."""
    found: list[list[tuple[float, float]]] = [[] for _ in range(_BINS)]
    for each in known:
        confidence = max(each.belief, 1.0 - each.belief)
        right = 0.5 if abs(each.belief - 0.5) < EVEN else float(each.belief > 0.5)
        found[min(_BINS - 1, int((confidence - 0.5) * 2 * _BINS + EVEN))].append((confidence, right))
    return tuple(
        Bin(
            low=0.5 + index / (2 * _BINS),
            high=0.5 + (index + 1) / (2 * _BINS),
            count=len(inside),
            confidence=mean([confidence for confidence, _ in inside]),
            accuracy=mean([right for _, right in inside]),
        )
        for index, inside in enumerate(found)
    )


def _above(one: Distribution, other: Distribution) -> float:
    """Return the probability that a level drawn from one is above that drawn from the other; a tie counts one half."""
    pairs = [
        (level - than, p * q)
        for level, p in zip(one.levels, one.probabilities, strict=True)
        for than, q in zip(other.levels, other.probabilities, strict=True)
    ]
    return sum(mass * (0.5 if difference == 0 else float(difference > 0)) for difference, mass in pairs)
