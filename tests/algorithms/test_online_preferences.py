"""Online DPO, IPO and SLiC, and DPO on recorded pairs."""

import dataclasses

import jax
import numpy as np
import pytest

from dar_jax.algorithms.offline_dpo import OfflineDPO
from dar_jax.algorithms.online_dpo import OnlineDPO
from dar_jax.algorithms.online_ipo import OnlineIPO
from dar_jax.algorithms.online_slic import OnlineSLiC
from tests.algorithms import golden
from tests.algorithms.golden import BETTER, REFERENCE, THETA, WORSE, differences, gradient_of, loss_of

MARGIN = differences(THETA - REFERENCE)


def test_dpo_is_the_logistic_loss_of_the_margin():
    for beta in (0.1, 2.0):
        expected = np.log1p(np.exp(-beta * MARGIN)).mean()
        np.testing.assert_allclose(loss_of(OnlineDPO(beta=beta)), expected, rtol=1e-5)


def test_labels_taken_to_be_wrong_at_times_hold_the_margin():
    right, wrong = np.log1p(np.exp(-0.1 * MARGIN)), np.log1p(np.exp(0.1 * MARGIN))
    smoothed = OnlineDPO(label_smoothing=0.2)
    np.testing.assert_allclose(loss_of(smoothed), (0.8 * right + 0.2 * wrong).mean(), rtol=1e-5)


def test_ipo_is_the_squared_distance_from_its_target():
    np.testing.assert_allclose(loss_of(OnlineIPO(beta=0.2)), ((MARGIN - 2.5) ** 2).mean(), rtol=1e-5)


def test_slic_is_the_hinge():
    np.testing.assert_allclose(loss_of(OnlineSLiC(beta=0.4)), np.maximum(0, 1 - 0.4 * MARGIN).mean(), rtol=1e-5)
    assert gradient_of(OnlineSLiC(beta=0.4))[BETTER[MARGIN * 0.4 > 1]].tolist() == [0.0]


@pytest.mark.parametrize(
    ("algorithm", "slope"), [(OnlineDPO(beta=0.3), 0.15), (OnlineSLiC(beta=0.3), 0.3), (OnlineIPO(beta=0.3), 2 / 0.6)]
)
def test_from_the_reference_all_three_take_the_same_direction(algorithm, slope):
    """At margin 0 they differ by the size of the step alone: beta / 2, beta, 1 / beta."""
    gradient = gradient_of(algorithm, THETA, spoken=golden.rollouts(THETA, THETA)) * len(BETTER)
    np.testing.assert_allclose(gradient[BETTER], -slope, rtol=1e-5)
    np.testing.assert_allclose(gradient[WORSE], slope, rtol=1e-5)


def test_a_judge_that_compares_and_one_that_scores_teach_the_same():
    compared = np.array([[0.0, 1, 0, 1], [0, 1, 0, 1]])
    for algorithm in (OnlineDPO(), OnlineIPO(), OnlineSLiC()):
        by_preference = gradient_of(algorithm, judged=golden.rewards(compared))
        np.testing.assert_array_equal(by_preference, gradient_of(algorithm))


def test_recorded_pairs_are_learnt_as_sampled_ones():
    order = np.stack([BETTER, WORSE], 1).reshape(-1)
    recorded = jax.tree.map(lambda leaf: leaf[order], golden.rollouts())
    recorded = dataclasses.replace(recorded, sampling_logprob_BT=None, sampler_logprob_BT=None)
    np.testing.assert_allclose(loss_of(OfflineDPO(), spoken=recorded), loss_of(OnlineDPO()), rtol=1e-6)
    np.testing.assert_allclose(gradient_of(OfflineDPO(), spoken=recorded), gradient_of(OnlineDPO()), rtol=1e-6)


def test_metrics_have_the_names_of_trl():
    batch, _ = OnlineDPO().weigh(golden.rollouts(), golden.rewards())
    logprob_ERT = THETA.reshape(-1)[np.asarray(batch.inputs_ER.token_BT[..., 0])][..., None]
    _, metrics = OnlineDPO().regress(logprob_ERT, batch)
    assert metrics["rewards/margins"] == pytest.approx(0.1 * MARGIN.sum(), rel=1e-5)
    assert metrics["rewards/accuracies"] == (MARGIN > 0).sum()
    assert metrics["logprobs/chosen"] == pytest.approx(THETA.reshape(-1)[BETTER].sum())
