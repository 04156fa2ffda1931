"""DAR solved exactly on a tabular policy of one prompt and twelve answers: what the theory says comes out.

With exact updates, F(pi) = E_pi[r] - alpha KL(pi || pi_ref) never falls, log(pi_t / pi_ref) is (1 - (1 - rho)^t) r /
alpha up to a constant, and the limit is pi_ref exp(r / alpha) / Z with alpha = rho tau.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from dar_jax.algorithms import dar_weights
from dar_jax.algorithms.losses import logistic, weighted_regression
from dar_jax.algorithms.pairs import margin_of
from dar_jax.batches import Batch, Inputs

ANSWERS, RHO, TAU = 12, 0.3, 0.5
ALPHA, BETA = RHO * TAU, (1 - RHO) * TAU
_random = np.random.default_rng(7)
REWARD = _random.normal(0, 1, ANSWERS)
REFERENCE = _random.dirichlet(np.ones(ANSWERS))


def weights(policy):
    """Weigh every answer by DAR, the mean reward as the baseline; the clip is out of reach."""
    with jax.enable_x64(True):
        log_ratio = np.log(REFERENCE / policy)[None]
        settings = {"alpha_ratio": RHO, "total_regularization": TAU, "weight_clip": 1e12, "normalize": "none"}
        return np.asarray(dar_weights(REWARD[None], log_ratio, **settings))[0]


def solved(policy):
    """Solve the regression on samples of `policy` exactly: pi proportional to pi_t w."""
    raw = policy * weights(policy)
    return raw / raw.sum()


def kl(one, other):
    return (one * np.log(one / other)).sum()


def regularized_return(policy):
    return policy @ REWARD - ALPHA * kl(policy, REFERENCE)


def iterations(count):
    policies = [REFERENCE]
    for _ in range(count):
        policies.append(solved(policies[-1]))
    return policies


def example_per_answer(weight_E):
    return Batch(
        inputs_ER=Inputs(token_BT=jnp.zeros((ANSWERS, 1, 2), jnp.int32), mask_BS=jnp.ones((ANSWERS, 1, 2), bool)),
        mask_completion_ERT=jnp.ones((ANSWERS, 1, 1), bool),
        weight_E=jnp.asarray(weight_E),
        mask_E=jnp.ones(ANSWERS, bool),
    )


def test_the_regression_rests_at_the_solution():
    """The gradient of the loss that the learner minimises, by the logits of a softmax, is 0 there and nowhere near."""
    policy = iterations(1)[1]
    batch = example_per_answer(policy * weights(policy))

    def loss(logits):
        return weighted_regression(jax.nn.log_softmax(logits)[:, None, None], batch)[0]

    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.grad(loss)(jnp.log(solved(policy))), 0, atol=1e-7)
        assert np.abs(jax.grad(loss)(jnp.log(policy))).max() > 1e-2


def test_the_regularised_return_rises_by_two_divergences():
    """F(pi_{t+1}) - F(pi_t) = tau KL(pi_t || pi_{t+1}) + beta KL(pi_{t+1} || pi_t)."""
    policies = iterations(30)
    for before, after in itertools.pairwise(policies):
        gained = regularized_return(after) - regularized_return(before)
        assert gained == pytest.approx(TAU * kl(before, after) + BETA * kl(after, before), abs=1e-12)
        assert gained >= -1e-12


def test_every_iteration_is_the_closed_form():
    for step, policy in enumerate(iterations(20)):
        exponent = (1 - (1 - RHO) ** step) * REWARD / ALPHA
        difference = np.log(policy / REFERENCE) - exponent
        np.testing.assert_allclose(difference, difference.mean(), atol=1e-9)


def test_the_limit_is_the_optimum_of_the_kl_to_the_reference_alone():
    raw = REFERENCE * np.exp(REWARD / ALPHA)
    np.testing.assert_allclose(iterations(120)[-1], raw / raw.sum(), rtol=1e-9)


def test_two_kls_are_one_up_to_the_mixtures_normaliser():
    """rho KL(pi || pi_ref) + (1 - rho) KL(pi || pi_t) = KL(pi || m) - log C."""
    policy, other = iterations(3)[-1], _random.dirichlet(np.ones(ANSWERS))
    raw = REFERENCE**RHO * policy ** (1 - RHO)
    both = RHO * kl(other, REFERENCE) + (1 - RHO) * kl(other, policy)
    assert both == pytest.approx(kl(other, raw / raw.sum()) - np.log(raw.sum()), abs=1e-12)
    assert raw.sum() <= 1


def test_dual_kl_dpo_has_dars_optimum():
    """With labels by Bradley and Terry of the rewards, the population loss is least at pi_ref^rho pi_t^(1-rho)
    exp(r / tau).
    """
    policy = iterations(2)[-1]
    better, worse = (index.reshape(-1) for index in np.indices((ANSWERS, ANSWERS)))
    chance = 1 / (1 + np.exp(REWARD[worse] - REWARD[better])) * policy[better] * policy[worse]

    def rows(values):
        return jnp.stack([values[better], values[worse]], 1)[..., None]

    with jax.enable_x64(True):
        batch = Batch(
            inputs_ER=Inputs(token_BT=jnp.zeros((len(better), 2, 2), jnp.int32), mask_BS=jnp.ones((len(better), 2, 2))),
            mask_completion_ERT=jnp.ones((len(better), 2, 1), bool),
            weight_E=jnp.asarray(chance),
            mask_E=jnp.ones(len(better), bool),
            sampling_logprob_ERT=rows(jnp.log(policy)),
            ref_logprob_ERT=rows(jnp.log(REFERENCE)),
        )

        @jax.jit
        @jax.value_and_grad
        def loss(logits):
            margin_E = margin_of(rows(jax.nn.log_softmax(logits)), batch, tau=TAU, rho=RHO)
            return (batch.weight_E * logistic(margin_E)).sum()

        found = minimize(loss, np.zeros(ANSWERS), jac=True, method="BFGS", options={"gtol": 1e-10})
        best = REFERENCE**RHO * policy ** (1 - RHO) * np.exp(REWARD / TAU)
        np.testing.assert_allclose(jax.nn.softmax(found.x), best / best.sum(), rtol=1e-5)
