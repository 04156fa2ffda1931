"""Identities and properties of DAR's weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from dar_jax.algorithms import DAR, dar_weights
from tests.algorithms import golden

few = settings(max_examples=40, deadline=None)
rewards = st.integers(0, 2**31).map(lambda seed: np.random.default_rng(seed).uniform(1, 10, (3, 4)))


def test_equal_rewards_leave_the_reference_term_alone():
    ratio_PG = jnp.array([[0.0, 5.0, -5.0], [100.0, 1.0, 0.0]])
    for reward in (7.1, 0.0, 1e6):
        weight_PG = dar_weights(jnp.full((2, 3), reward), ratio_PG)
        np.testing.assert_allclose(weight_PG, np.minimum(np.exp(0.1 * np.asarray(ratio_PG)), 20), rtol=1e-5)


def test_one_completion_a_prompt_falls_back_to_the_batch_mean():
    reward_P1, ratio_P1 = jnp.array([[1.0], [2.0], [6.0]]), jnp.zeros((3, 1))
    expected = dar_weights(reward_P1.T, ratio_P1.T, baseline="batch").T
    np.testing.assert_allclose(dar_weights(reward_P1, ratio_P1), expected, rtol=1e-6)


@few
@given(rewards, st.floats(0.1, 50), st.floats(-100, 100))
def test_affine_change_of_the_rewards_changes_nothing(reward_PG, scale, shift):
    with jax.enable_x64(True):
        one = dar_weights(reward_PG, np.zeros((3, 4)))
        other = dar_weights(scale * reward_PG + shift, np.zeros((3, 4)))
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


@few
@given(rewards, st.integers(0, 11), st.sampled_from([0.0, 1e9, -1e9, np.nan, np.inf]))
@pytest.mark.parametrize("normalize", ["batch", "prompt", "none"])
@pytest.mark.parametrize("baseline", ["prompt", "leave_one_out", "batch"])
def test_a_failed_judgement_never_becomes_a_number(normalize, baseline, reward_PG, at, junk):
    """Trap: whatever stands where the judge failed, it gets weight 0 and moves no other weight."""
    valid_PG = np.ones((3, 4), bool)
    valid_PG.flat[at] = False
    options = {"valid_PG": valid_PG, "normalize": normalize, "baseline": baseline}
    clean = dar_weights(jnp.where(valid_PG, reward_PG, 5.0), jnp.ones((3, 4)), **options)
    dirty = dar_weights(jnp.where(valid_PG, reward_PG, junk), jnp.ones((3, 4)), **options)
    np.testing.assert_array_equal(clean, dirty)
    assert clean.reshape(-1)[at] == 0


def test_scored_members_alone_make_the_statistics():
    reward_PG = jnp.array([[1.0, 4.0, 9.0, 2.0], [5.0, 3.0, 0.0, 8.0]])
    valid_PG = jnp.array([[True, True, True, False], [True, True, True, False]])
    ratio_PG = jnp.zeros((2, 4))
    part = dar_weights(reward_PG, ratio_PG, valid_PG=valid_PG)[:, :3]
    np.testing.assert_allclose(part, dar_weights(reward_PG[:, :3], ratio_PG[:, :3]), rtol=1e-6)


def test_a_group_with_one_scored_member_contributes_nothing():
    reward_PG = jnp.array([[1.0, 9.0, 9.0], [2.0, 4.0, 9.0]])
    valid_PG = jnp.array([[True, False, False], [True, True, True]])
    weight_PG = dar_weights(reward_PG, jnp.zeros((2, 3)), valid_PG=valid_PG)
    assert not weight_PG[0].any()
    np.testing.assert_allclose(weight_PG[1:], dar_weights(reward_PG[1:], jnp.zeros((1, 3))), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_float32_exp_overflow_above_88_is_clipped_in_log_space(dtype):
    """Trap: A/tau above 88.7 overflows exp in float32."""

    def total(ratio_PG):
        return dar_weights(jnp.array([[1.0, 2.0]]).astype(dtype), ratio_PG, total_regularization=1e-4).sum()

    ratio_PG = jnp.array([[0.0, 1e5]], dtype)
    value, grad = jax.value_and_grad(total)(ratio_PG)
    np.testing.assert_allclose(value, 20.0, rtol=1e-5)
    assert not np.any(np.asarray(grad, np.float32))


def test_nothing_valid_gives_no_weight_and_no_nan():
    weight_PG = dar_weights(jnp.full((2, 2), jnp.nan), jnp.zeros((2, 2)), valid_PG=jnp.zeros((2, 2), bool))
    assert not weight_PG.any()


def _dar(**settings):
    return TypeAdapter(DAR).validate_python(settings)


def test_the_papers_settings_are_the_defaults():
    dar = DAR()
    assert (dar.alpha_ratio, dar.total_regularization, dar.weight_clip) == (0.1, 0.05, 20.0)
    assert (dar.baseline, dar.normalize) == ("prompt", "batch")


def test_either_notation_of_the_two_kl_terms():
    dar = _dar(kl_ref_coef=0.005, kl_sampling_coef=0.045)
    np.testing.assert_allclose((dar.alpha_ratio, dar.total_regularization), (0.1, 0.05))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kl_ref_coef": 0.1, "kl_sampling_coef": 0.1, "alpha_ratio": 0.1}, "both KL notations"),
        ({"kl_ref_coef": 0.1}, "give kl_ref_coef and kl_sampling_coef"),
        ({"kl_ref_coef": 0, "kl_sampling_coef": 0}, "above 0"),
        ({"kl_ref_coef": "much", "kl_sampling_coef": 0}, "expected a number"),
        ({"weight_clip": 0}, "greater than 0"),
        ({"alpha_ratio": 1.5}, "less than or equal to 1"),
    ],
)
def test_settings_that_cannot_be(settings, said):
    with pytest.raises(ValidationError, match=said):
        _dar(**settings)


def test_one_completion_a_prompt_needs_a_batch_baseline():
    assert "algorithm.baseline=batch" in DAR().reject_group_size(1)
    assert DAR(baseline="batch").reject_group_size(1) is None
    assert DAR().reject_group_size(2) is None


@pytest.mark.parametrize("kind", ["batch", "leave_one_out"])
def test_a_weight_baseline_is_taken_from_each_weight(kind):
    plain_E = np.asarray(DAR().weigh(golden.rollouts(), golden.rewards())[0].weight_E)
    group_P4 = plain_E.reshape(2, 4)
    others = (group_P4.sum(1, keepdims=True) - group_P4) / 3 if kind == "leave_one_out" else plain_E.mean()
    batch, metrics = DAR(weight_baseline=kind).weigh(golden.rollouts(), golden.rewards())
    np.testing.assert_allclose(batch.weight_E, (group_P4 - others).reshape(-1), rtol=1e-5)
    np.testing.assert_allclose(metrics["completion/weight"], group_P4 - others, rtol=1e-5)
    assert metrics["dar/weight_mean"] == pytest.approx(plain_E.mean())


@pytest.mark.parametrize("kind", ["batch", "leave_one_out"])
def test_a_weight_baseline_leaves_out_what_failed(kind):
    valid = np.arange(8).reshape(2, 4) != 5
    weight_E = DAR(weight_baseline=kind).weigh(golden.rollouts(), golden.rewards(golden.REWARD, valid))[0].weight_E
    assert weight_E[5] == 0
    assert abs(weight_E.sum()) < 1e-4


def test_a_weight_baseline_of_equal_weights_leaves_nothing_to_learn():
    """Equal rewards at pi_t = pi_ref: every weight is 1, and so is the mean of the others."""
    equal, start = golden.rewards(np.full((2, 4), 5.0)), golden.rollouts(golden.SAMPLING, golden.SAMPLING)
    batch, _ = DAR(weight_baseline="leave_one_out").weigh(start, equal)
    np.testing.assert_allclose(batch.weight_E, 0, atol=1e-6)
