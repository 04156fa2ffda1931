import jax
import numpy as np
import pytest

from dar_jax.algorithms.best_of_n import BestOfN
from dar_jax.algorithms.sft import SFT
from tests.algorithms import golden
from tests.algorithms.golden import REWARD, gradient_of, loss_of


def test_the_loss_is_the_likelihood_of_each_prompts_best():
    assert loss_of(BestOfN()) == pytest.approx((41.75 + 46.5) / 2)
    np.testing.assert_array_equal(gradient_of(BestOfN()), [0, -0.5, 0, 0, 0, -0.5, 0, 0])


def test_it_is_sft_on_what_it_picks():
    picked = jax.tree.map(lambda leaf: leaf[np.array([1, 5])], golden.rollouts())
    sft, _ = SFT().weigh(picked)
    mine, _ = BestOfN().weigh(golden.rollouts(), golden.rewards())
    logprob_ERT = np.float32([[[-41.75]], [[-46.5]]])
    assert BestOfN().regress(logprob_ERT, mine)[0] == SFT().regress(logprob_ERT, sft)[0]


def test_only_scored_completions_compete_and_one_alone_wins_nothing():
    valid = np.array([[True, False, True, True], [False, True, False, False]])
    np.testing.assert_array_equal(gradient_of(BestOfN(), judged=golden.rewards(REWARD, valid)), [-1] + [0] * 7)


def test_the_first_of_equals_is_taken_and_the_log_says_which():
    _, metrics = BestOfN().weigh(golden.rollouts(), golden.rewards(np.full((2, 4), 5.0)))
    np.testing.assert_array_equal(metrics["completion/weight"], [[1, 0, 0, 0]] * 2)
    assert metrics["best_of_n/gain"] == 0
    _, metrics = BestOfN().weigh(golden.rollouts(), golden.rewards())
    assert metrics["best_of_n/gain"] == pytest.approx((1 + 3.75) / 2)
    assert "2 or more" in BestOfN().reject_group_size(1)
