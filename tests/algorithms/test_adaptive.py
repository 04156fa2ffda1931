"""Controllers of tau and rho: the equations they solve, and how they move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dar_jax.algorithms.adaptive import ClipFraction, Evidence, Temperature, TwoKL
from dar_jax.algorithms.dar import DAR
from tests.algorithms import golden
from tests.algorithms.golden import REFERENCE, SAMPLING, Z_SCORED

few = settings(max_examples=8, deadline=None)
seeds = st.integers(0, 2**31).map(np.random.default_rng)


# No controller goes below it.
LEAST = 1e-4


def evidence(random, prompts=16):
    shape = prompts, 4
    arrays = random.normal(0, 3, shape), random.normal(0, 1, shape), random.random(shape) < 0.9
    return Evidence(*map(jnp.asarray, arrays))


def share_at_clip(seen, rho, tau, clip=20.0):
    used = np.asarray(seen.used_PG)
    log_weight = rho * np.asarray(seen.log_ratio_PG) + np.asarray(seen.advantage_PG) / float(tau)
    return (log_weight >= np.log(clip))[used].mean()


@few
@given(seeds, st.floats(0.05, 0.4))
def test_the_share_at_the_clip_is_the_most_that_the_target_allows(random, target):
    with jax.enable_x64(True):
        seen = evidence(random)
        rho, tau = ClipFraction(target=target).coefficients(0.1, 20.0, seen, {})
        assert rho == 0.1
        assert share_at_clip(seen, rho, tau * 1.000001) <= target
        if share_at_clip(seen, rho, LEAST) <= target:  # too few are better than average, whatever tau is
            assert tau == pytest.approx(LEAST)
        else:
            assert share_at_clip(seen, rho, tau * 0.999999) > target


def test_where_too_few_can_be_at_the_clip_tau_is_the_least():
    with jax.enable_x64(True):
        seen = evidence(np.random.default_rng(12065))
        rho, tau = ClipFraction(target=0.375).coefficients(0.1, 20.0, seen, {})
        assert share_at_clip(seen, rho, tau) == pytest.approx(10 / 27)
        assert tau == pytest.approx(LEAST)


def farthest(seen, rho):
    """What is left of the mixture's share in the best sample, in nats: no temperature goes farther."""
    used = np.asarray(seen.used_PG)
    mixture = np.exp(rho * np.asarray(seen.log_ratio_PG))[used]
    return -np.log(mixture[np.asarray(seen.advantage_PG)[used].argmax()] / mixture.sum())


def kl_to_mixture(seen, rho, tau):
    used = np.asarray(seen.used_PG)
    mixture = np.exp(rho * np.asarray(seen.log_ratio_PG))[used]
    target = mixture * np.exp(np.asarray(seen.advantage_PG)[used] / float(tau))
    mixture, target = mixture / mixture.sum(), target / target.sum()
    return (target * np.log(target / mixture)).sum()


@few
@given(seeds, st.floats(0.05, 1.0), st.floats(0, 0.3))
def test_the_target_lies_so_far_from_the_mixture(random, kl, rho):
    with jax.enable_x64(True):
        seen = evidence(random)
        _, tau = Temperature(kl=kl).coefficients(rho, 20.0, seen, {})
    assume(farthest(seen, rho) > kl + 0.1)
    assert kl_to_mixture(seen, rho, tau) == pytest.approx(kl, rel=1e-6)


def test_where_no_tau_goes_so_far_it_is_the_least():
    with jax.enable_x64(True):
        seen = evidence(np.random.default_rng(0))
        _, tau = Temperature(kl=50.0).coefficients(0.1, 20.0, seen, {})
    assert tau == pytest.approx(1e-4)


@few
@given(seeds, st.floats(0.1, 1.0), st.floats(0, 0.3))
def test_the_temperature_is_where_the_dual_is_flat(random, kl, rho):
    """g(tau) = tau (e - log E exp(rho delta)) + tau log E exp(rho delta + A / tau), least at the tau found."""
    with jax.enable_x64(True):
        seen = evidence(random)
        assume(farthest(seen, rho) > kl + 0.1)
        _, tau = Temperature(kl=kl).coefficients(rho, 20.0, seen, {})

        def dual(tau):
            used_PG, from_reference_PG = seen.used_PG, rho * seen.log_ratio_PG
            log_of = [
                jax.nn.logsumexp(jnp.where(used_PG, value_PG, -jnp.inf))
                for value_PG in (from_reference_PG, from_reference_PG + seen.advantage_PG / tau)
            ]
            return tau * (kl + log_of[1] - log_of[0])

        assert abs(jax.grad(dual)(tau)) < 1e-6
        assert dual(tau) < min(dual(tau * 1.1), dual(tau / 1.1))


def test_without_a_reference_and_with_one_it_is_mpos():
    """rho = 0 leaves tau e + tau log E exp(A / tau), whose mixture is uniform over the samples."""
    with jax.enable_x64(True):
        seen = evidence(np.random.default_rng(0))
        _, tau = Temperature(kl=0.5).coefficients(0.0, 20.0, seen, {})
        exponent = np.asarray(seen.advantage_PG)[np.asarray(seen.used_PG)] / float(tau)
    share = np.exp(exponent) / np.exp(exponent).sum()
    assert np.log(len(share)) + (share * np.log(share)).sum() == pytest.approx(0.5, rel=1e-6)


def test_rewards_that_agree_or_fail_give_weights_that_are_finite():
    for judged in (golden.rewards(np.full((2, 4), 5.0)), golden.rewards(np.full((2, 4), np.nan), False)):
        for controller in (ClipFraction(), Temperature()):
            _, metrics = DAR(adaptive=controller).weigh(golden.rollouts(), judged)
            found = ("completion/weight", "completion/advantage", "dar/total_regularization", "dar/alpha_ratio")
            assert all(np.isfinite(metrics[name]).all() for name in found)


def test_dar_weighs_by_the_tau_that_is_found_and_tells_it():
    batch, metrics = DAR(adaptive=ClipFraction(target=0.2)).weigh(golden.rollouts(), golden.rewards())
    tau = float(metrics["dar/total_regularization"])
    assert metrics["dar/clip_fraction"] <= 0.2
    expected = np.minimum(np.exp(0.1 * (REFERENCE - SAMPLING) + Z_SCORED / tau), 20)
    np.testing.assert_allclose(batch.weight_E, expected.reshape(-1), rtol=1e-3)
    _, plain = DAR().weigh(golden.rollouts(), golden.rewards())
    assert "dar/total_regularization" not in plain


def test_two_kl_starts_from_the_settings_and_moves_each_towards_its_target():
    dar = DAR(adaptive=TwoKL(reference_kl=10.0, sampling_kl=1.0))
    memory = dar.initial_memory()
    assert (memory["alpha"], memory["beta"]) == (pytest.approx(0.005), pytest.approx(0.045))
    after = dar.updated_memory(memory, {"objective/kl_k3": 30.0, "kl/sampling_k3": 0.9})
    assert after["alpha"] == pytest.approx(0.005 * 1.02)
    assert after["beta"] == pytest.approx(0.045 * 0.99)
    held = dar.updated_memory(memory, {"objective/kl_k3": 10.0, "kl/sampling_k3": 1.0})
    assert held == memory
    _, metrics = dar.weigh(golden.rollouts(), golden.rewards(), after)
    assert metrics["dar/total_regularization"] == pytest.approx(after["alpha"] + after["beta"])
    assert metrics["dar/alpha_ratio"] == pytest.approx(after["alpha"] / (after["alpha"] + after["beta"]))


@pytest.mark.parametrize("metrics", [{}, {"objective/kl_k3": np.nan, "kl/sampling_k3": np.nan}])
def test_two_kl_stays_where_no_kl_was_measured(metrics):
    controller = TwoKL()
    memory = controller.initial_memory(0.1, 0.2)
    assert controller.updated_memory(memory, metrics) == memory


def test_what_cannot_be_met_is_capped():
    """Too far from pi_ref, and steps too small to come back: both coefficients would grow without end."""
    controller = TwoKL(cap=3.0, gain=1.0)
    memory = controller.initial_memory(0.1, 0.2)
    for _ in range(50):
        memory = controller.updated_memory(memory, {"objective/kl_k3": 1e9, "kl/sampling_k3": 1e9})
    assert (memory["alpha"], memory["beta"]) == (pytest.approx(0.3), pytest.approx(0.6))
    for _ in range(100):
        memory = controller.updated_memory(memory, {"objective/kl_k3": 0.0, "kl/sampling_k3": 0.0})
    assert (memory["alpha"], memory["beta"]) == (pytest.approx(0.1 / 3), pytest.approx(0.2 / 3))


def test_a_controlled_quantity_comes_to_its_target():
    """A policy whose KLs fall as their coefficients rise, KL = 1 / coefficient, is led to the targets."""
    controller = TwoKL(reference_kl=20.0, sampling_kl=5.0)
    memory = controller.initial_memory(0.1, 0.1)
    for _ in range(300):
        measured = {"objective/kl_k3": 1 / memory["alpha"], "kl/sampling_k3": 1 / memory["beta"]}
        memory = controller.updated_memory(memory, measured)
    assert 1 / memory["alpha"] == pytest.approx(20.0, rel=0.02)
    assert 1 / memory["beta"] == pytest.approx(5.0, rel=0.02)
