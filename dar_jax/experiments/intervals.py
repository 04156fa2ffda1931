"""Statistics over seeds: means with Student's interval, annotations to a level with a bootstrap interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

_DRAWS = 10_000
_SHARE = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value and its 95 % interval (NaN for a single run); infinity is a level that is not reached."""

    value: float
    low: float
    high: float


def over_seeds(values: Sequence[float] | np.ndarray, *, share: bool = False) -> Estimate:
    """Average runs of independent seeds; the interval is Student's, mean ± t s / sqrt(n), of a share within 0 and 1."""
    found = np.asarray(values, float)
    mean, count = float(found.mean()), len(found)
    if count < 2:
        return Estimate(value=mean, low=np.nan, high=np.nan)
    half = float(stdtrit(count - 1, (1 + _SHARE) / 2) * found.std(ddof=1) / np.sqrt(count))
    low, high = mean - half, mean + half
    return Estimate(value=mean, low=max(low, 0.0) if share else low, high=min(high, 1.0) if share else high)


def annotations_to(level: float, annotations_N: np.ndarray, reward_N: np.ndarray) -> float:
    """Return how many annotations a curve takes to a level at first, between two points by a straight line; infinity
    where it never gets there. A point without a number is passed over.
    """
    known_N = ~np.isnan(reward_N)
    x, y = annotations_N[known_N].astype(float), reward_N[known_N]
    above = np.flatnonzero(y >= level)
    if not len(above):
        return np.inf
    at = int(above[0])
    if at == 0:
        return float(x[0])
    return float(x[at - 1] + (x[at] - x[at - 1]) * (level - y[at - 1]) / (y[at] - y[at - 1]))


def to_level(level: float, annotations_N: np.ndarray, reward_SN: np.ndarray) -> Estimate:
    """Return the annotations that the mean curve of some seeds takes; the interval is a bootstrap over seeds, by
    percentiles, with infinity for draws that do not get there.
    """
    value = annotations_to(level, annotations_N, reward_SN.mean(0))
    return _interval(value, _drawn(level, annotations_N, reward_SN, _draws(len(reward_SN))), len(reward_SN))


def ratio_to_level(
    level: float,
    annotations_N: np.ndarray,
    reward_SN: np.ndarray,
    first_annotations_N: np.ndarray,
    first_reward_SN: np.ndarray,
) -> Estimate:
    """Return the annotations over those of the first; rows are the same seeds of both, drawn together.

    Draws in which neither gets there say nothing and are left out.
    """
    draws = _draws(len(reward_SN))
    own = _drawn(level, annotations_N, reward_SN, draws)
    first = _drawn(level, first_annotations_N, first_reward_SN, draws)
    value = _ratio(
        np.array([annotations_to(level, annotations_N, reward_SN.mean(0))]),
        np.array([annotations_to(level, first_annotations_N, first_reward_SN.mean(0))]),
    )[0]
    return _interval(float(value), _ratio(own, first), len(reward_SN))


def _draws(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, count, (_DRAWS, count))


def _drawn(level: float, annotations_N: np.ndarray, reward_SN: np.ndarray, draws: np.ndarray) -> np.ndarray:
    return np.array([annotations_to(level, annotations_N, curve_N) for curve_N in reward_SN[draws].mean(1)])


def _ratio(own: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Divide; where neither is finite, or both are 0, there is no ratio."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return own / first


def _interval(value: float, drawn: np.ndarray, seeds: int) -> Estimate:
    found = drawn[~np.isnan(drawn)]
    if seeds < 2 or not len(found):
        return Estimate(value=value, low=np.nan, high=np.nan)
    # Between a number and infinity there is no middle.
    low = np.quantile(found, (1 - _SHARE) / 2, method="lower")
    high = np.quantile(found, (1 + _SHARE) / 2, method="higher")
    return Estimate(value=value, low=float(low), high=float(high))
