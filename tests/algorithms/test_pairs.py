import numpy as np
import pytest

from dar_jax.algorithms.online_dpo import OnlineDPO
from dar_jax.algorithms.pairs import gains, margin_of, pair_metrics, pairs_of
from dar_jax.batches import check
from tests.algorithms import golden
from tests.algorithms.golden import BETTER, REFERENCE, REWARD, SAMPLING, THETA, WORSE, differences

VALID = np.ones((2, 4), bool)


def paired(reward=REWARD, valid=VALID):
    judged = golden.rewards(reward, valid)
    return check(pairs_of(golden.rollouts(), judged.reward_PG, judged.valid_PG))


def logprobs(batch):
    return THETA.reshape(-1)[np.asarray(batch.inputs_ER.token_BT[..., 0])][..., None]


def test_the_better_of_each_two_comes_first():
    batch = paired()
    np.testing.assert_array_equal(batch.inputs_ER.token_BT[..., 0], np.stack([BETTER, WORSE], 1))
    np.testing.assert_array_equal(batch.weight_E, differences(REWARD))
    np.testing.assert_array_equal(batch.ref_logprob_ERT[:, 0, 0], REFERENCE.reshape(-1)[BETTER])
    np.testing.assert_array_equal(batch.sampling_logprob_ERT[:, 1, 0], SAMPLING.reshape(-1)[WORSE])


def test_a_pair_of_which_one_is_not_scored_is_none():
    batch = paired(np.where(VALID, REWARD, np.nan), np.arange(8).reshape(2, 4) != 3)
    assert batch.mask_E.tolist() == [True, False, True, True]
    metrics = pair_metrics(batch)
    assert metrics["pairs/valid_fraction"] == 0.75
    assert metrics["pairs/gain"] == pytest.approx((1 + 6 + 1) / 3)


@pytest.mark.parametrize(("tau", "rho"), [(0.1, 1.0), (1.0, 0.0), (0.05, 0.1)])
def test_the_margin_weighs_both_policies(tau, rho):
    batch = paired()
    expected = tau * (differences(THETA) - rho * differences(REFERENCE) - (1 - rho) * differences(SAMPLING))
    np.testing.assert_allclose(margin_of(logprobs(batch), batch, tau=tau, rho=rho), expected, rtol=1e-5, atol=1e-6)


def test_at_dars_optimum_the_margin_is_the_difference_of_rewards():
    """pi* = pi_ref^rho pi_t^(1-rho) exp(r / tau) / Z, of whatever Z."""
    best = 0.1 * REFERENCE + 0.9 * SAMPLING + REWARD / 0.05 - 12.3
    batch = paired()
    rows = np.asarray(batch.inputs_ER.token_BT[..., 0])
    margin_E = margin_of(best.reshape(-1)[rows][..., None], batch, tau=0.05, rho=0.1)
    np.testing.assert_allclose(margin_E, differences(REWARD), rtol=1e-4)


def test_gains_are_told_of_each_completion():
    np.testing.assert_array_equal(gains(REWARD, VALID), [[-1, 1, -1, 1], [-6, 6, -1, 1]])


def test_pairs_need_an_even_group():
    assert "make it even" in OnlineDPO().reject_group_size(3)
    assert OnlineDPO().reject_group_size(2) is None


def test_ties_teach_nothing():
    tie = np.where(np.arange(8).reshape(2, 4) < 2, 5.0, REWARD)
    batch, metrics = OnlineDPO().weigh(golden.rollouts(), golden.rewards(tie))
    assert batch.mask_E.tolist() == [False, True, True, True]
    assert metrics["pairs/tie_fraction"] == 0.25
    np.testing.assert_array_equal(metrics["completion/weight"], [[0, 0, -1, 1], [-1, 1, -1, 1]])
