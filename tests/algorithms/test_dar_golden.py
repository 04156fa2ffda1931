"""method.md's golden numbers: 2 prompts x 4 completions, float64, made with NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dar_jax.algorithms import DAR, dar_weights
from dar_jax.batches import Rewards, Rollouts
from tests.algorithms import golden
from tests.algorithms.golden import REFERENCE, REWARD, SAMPLING, THETA

DEFAULT = [
    0.7408182206817179,
    20,
    5.786464546689854e-06,
    1.2214027581601699,
    1.56212287911229e-12,
    20,
    4.450913329648015e-07,
    0.04437862844989527,
]
VARIANTS = {
    "default": ({}, 230.36674740915637, DEFAULT),
    "tau 1": (
        {"total_regularization": 1.0},
        78.429593011022,
        [
            0.7408182207,
            1.9997045674,
            0.4524855485,
            1.2214027582,
            0.1597334533,
            7.9545806886,
            0.5820206699,
            0.7421158890,
        ],
    ),
    "tau 0.5, rho 0.5": (
        {"total_regularization": 0.5, "alpha_ratio": 0.5},
        165.3048752812455,
        [0.2231301601, 5.3978401787, 0.1123654350, 2.7182818285, 0.0056931161, 20, 0.6172392090, 0.3511647731],
    ),
    "no z-score, tau 1": (
        {"normalize": "none", "total_regularization": 1.0},
        149.98288028611086,
        [0.7408182207, 3.0041660239, 0.3011942119, 1.2214027582, 0.0639278612, 20, 0.3499377491, 0.6703200460],
    ),
    "per-prompt z-score": (
        {"normalize": "prompt"},
        230.64976761419655,
        [0.7408182207, 20, 4.260280322e-13, 1.2214027582, 1.593127458e-09, 20, 2.088611448e-05, 0.0958198704],
    ),
    "sample deviation": (
        {"deviation": "sample"},
        230.41831441006786,
        [0.7408182207, 20, 1.244733612e-05, 1.2214027582, 8.754013543e-12, 20, 1.159519450e-06, 0.0537451966],
    ),
    "batch-mean baseline": (
        {"baseline": "batch"},
        416.52357633538514,
        [20, 20, 0.2196097020, 20, 3.130496590e-15, 20, 2.352534603e-10, 6.186565268e-06],
    ),
    "leave-one-out baseline": ({"baseline": "leave_one_out"}, 230.36674740915637, DEFAULT),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_and_loss_are_the_golden_ones(variant):
    options, loss, weights = VARIANTS[variant]
    with jax.enable_x64(True):
        weight_PG = np.asarray(dar_weights(REWARD, REFERENCE - SAMPLING, **options))
    assert weight_PG.dtype == np.float64
    np.testing.assert_allclose(weight_PG.reshape(-1), weights, rtol=5e-9)
    np.testing.assert_allclose(-(weight_PG * THETA).mean(), loss, rtol=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_float32_is_as_good_as_its_exponent_allows(variant):
    options, loss, weights = VARIANTS[variant]
    weight_PG = dar_weights(jnp.float32(REWARD), jnp.float32(REFERENCE - SAMPLING), **options)
    np.testing.assert_allclose(weight_PG.reshape(-1), weights, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(-(np.asarray(weight_PG) * THETA).mean(), loss, rtol=1e-5)


def test_intermediate_quantities():
    rollouts, rewards = golden.rollouts(), golden.rewards()
    batch, metrics = DAR().weigh(rollouts, rewards)
    advantage_PG = [0, 0.5929994533, -0.5929994533, 0, -1.3342487700, 2.2237479499, -0.7412493167, -0.1482498634]
    np.testing.assert_allclose(metrics["completion/advantage"].reshape(-1), advantage_PG, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(batch.weight_E, DEFAULT, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(metrics["dar/weight_mean"], 5.250825729856152, rtol=1e-5)
    np.testing.assert_allclose(metrics["dar/effective_sample_size"], 2.200076306854335, rtol=1e-5)
    assert metrics["dar/clip_fraction"] == 0.25


def test_gradient_reaches_only_the_policy_and_is_minus_weight_over_count():
    rollouts, rewards = golden.rollouts(), golden.rewards()

    def loss(theta_B, reward_PG, sampling_BT, ref_BT):
        changed = Rollouts(**{**vars(rollouts), "sampling_logprob_BT": sampling_BT, "ref_logprob_BT": ref_BT})
        batch, _ = DAR().weigh(changed, Rewards(reward_PG=reward_PG, valid_PG=rewards.valid_PG))
        logprob_ERT = theta_B[:, None, None] * batch.mask_completion_ERT
        return DAR().regress(logprob_ERT, batch)[0] / batch.mask_E.sum()

    theta = jnp.float32(THETA.reshape(-1))
    args = (theta, rewards.reward_PG, rollouts.sampling_logprob_BT, rollouts.ref_logprob_BT)
    value, grads = jax.value_and_grad(loss, argnums=(0, 1, 2, 3))(*args)
    expected = [
        -0.09260227758521473,
        -2.5,
        -7.233080683362317e-07,
        -0.15267534477002123,
        -1.9526535988903624e-13,
        -2.5,
        -5.5636416620600185e-08,
        -0.005547328556236909,
    ]
    np.testing.assert_allclose(value, 230.36674740915637, rtol=1e-5)
    np.testing.assert_allclose(grads[0], expected, rtol=1e-5, atol=1e-12)
    assert all(not np.any(np.asarray(grad)) for grad in grads[1:])
