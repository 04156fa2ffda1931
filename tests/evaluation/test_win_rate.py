import math

import numpy as np
import pytest

from dar_jax.evaluation import compare, wilson_interval
from dar_jax.records import Distribution, Verdict

FAILED = Verdict(status="timeout", reason="late")


def _verdict(reward):
    return Verdict(status="ok", distribution=Distribution(levels=(reward,), probabilities=(1.0,)))


def test_pairs_are_compared_prompt_by_prompt():
    ours = [_verdict(9.0), _verdict(5.0), _verdict(2.0), FAILED]
    theirs = [_verdict(5.0), _verdict(5.0 + 1e-9), _verdict(5.0), _verdict(1.0)]
    outcome = compare([1, 2, 3, 4], ours, [5, 5, 5, 5], theirs)
    assert (outcome.wins, outcome.ties, outcome.losses, outcome.unjudged) == (1, 1, 1, 1)
    assert outcome.win_rate == 0.5
    assert outcome.reward == pytest.approx(16 / 3)
    assert (outcome.length, outcome.start_length) == (2.5, 5.0)
    assert "wins 1, ties 1, losses 1 of 3" in outcome.describe()


def test_nothing_judged_is_no_number():
    outcome = compare([1], [FAILED], [1], [FAILED])
    assert math.isnan(outcome.win_rate)
    assert math.isnan(outcome.metrics()["eval/win_rate_low"])


def test_the_interval_is_wilsons():
    """Reference values: 8 of 10 and 0 of 20, by the closed form in NumPy."""
    z = 1.959964
    for wins, count in ((8, 10), (0, 20), (249, 256)):
        p = wins / count
        roots = np.roots([1 + z * z / count, -(2 * p + z * z / count), p * p])
        np.testing.assert_allclose(wilson_interval(p, count), sorted(roots.real), atol=1e-6)
