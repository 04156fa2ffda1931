import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dar_jax.batches import Batch, Inputs, Rewards, Rollouts, check, masked_mean


def inputs(**changes):
    return Inputs(**{"token_BT": np.zeros((4, 6), np.int32), "mask_BS": np.ones((4, 6), bool), **changes})


def rollouts(**changes):
    fields = {
        "inputs_B": inputs(),
        "mask_completion_BT": np.ones((4, 2), bool),
        "ended_B": np.ones(4, bool),
    }
    return Rollouts(**{**fields, **changes})


def batch(examples=5):
    return Batch(
        inputs_ER=Inputs(
            token_BT=jnp.arange(examples * 3).reshape(examples, 1, 3), mask_BS=jnp.ones((examples, 1, 3), bool)
        ),
        mask_completion_ERT=jnp.ones((examples, 1, 2), bool),
        weight_E=jnp.arange(examples, dtype=jnp.float32),
        mask_E=jnp.ones(examples, bool),
    )


def test_check_returns_the_record_whose_arrays_fit_their_names():
    for record in (rollouts(), rollouts(ref_logprob_BT=np.zeros((4, 2))), batch()):
        assert check(record) is record


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ended_B": np.ones((4, 1), bool)}, r"ended_B: shape (4, 1) has not the axes B"),
        ({"ended_B": np.ones(3, bool)}, r"ended_B: axis B has size 3, but 4 in inputs_B.token_BT"),
        (
            {"inputs_B": inputs(mask_BS=np.ones((5, 6), bool))},
            r"inputs_B.mask_BS: axis B has size 5, but 4 in inputs_B.token_BT",
        ),
        (
            {"inputs_B": inputs(mask_BS=np.ones((4, 1, 6), bool))},
            r"inputs_B.mask_BS: shape (4, 1, 6) has not the axes BS",
        ),
        ({"ref_logprob_BT": np.zeros((4, 3))}, r"ref_logprob_BT: axis T has size 3, but 2 in mask_completion_BT"),
    ],
)
def test_check_names_the_field_that_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check(rollouts(**changes))


def test_a_record_within_has_the_row_axes_of_its_name():
    wrong = dataclasses.replace(batch(), mask_E=jnp.ones(4, bool))
    with pytest.raises(ValueError, match=r"mask_E: axis E has size 4, but 5 in inputs_ER.token_BT"):
        check(wrong)


def test_check_reads_prompts_and_groups_apart():
    check(Rewards(reward_PG=np.zeros((2, 3)), valid_PG=np.ones((2, 3), bool)))
    with pytest.raises(ValueError, match="axis P has size 3"):
        check(Rewards(reward_PG=np.zeros((2, 3)), valid_PG=np.ones((3, 2), bool)))


def test_masked_mean_metrics_averaged_over_padding():
    value, mask = jnp.array([1.0, 2.0, 99.0, 99.0]), jnp.array([True, True, False, False])
    assert masked_mean(value, mask) == 1.5
    assert masked_mean(value.at[2].set(jnp.nan), mask) == 1.5


def test_masked_mean_of_nothing_is_zero():
    assert masked_mean(jnp.array([jnp.nan, 1.0]), jnp.zeros(2, bool)) == 0.0


def test_masked_mean_has_a_finite_gradient_beside_nan():
    mask = jnp.array([True, False])
    gradient = jax.grad(lambda value: masked_mean(value, mask))(jnp.array([1.0, jnp.nan]))
    np.testing.assert_array_equal(gradient, [1.0, 0.0])


def test_records_pass_through_jit_and_keep_what_is_absent():
    record = rollouts(ref_logprob_BT=np.ones((4, 2), np.float32))
    doubled = jax.jit(lambda r: jax.tree.map(lambda leaf: leaf + leaf, r))(record)
    assert isinstance(doubled, Rollouts)
    assert doubled.sampling_logprob_BT is None
    np.testing.assert_array_equal(doubled.ref_logprob_BT, 2.0)


def test_records_are_frozen_and_take_names_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch().weight_E = jnp.ones(5)
    with pytest.raises(TypeError):
        Rewards(np.zeros((1, 1)), np.ones((1, 1), bool))


def test_take_picks_whole_examples_in_the_order_given():
    picked = check(batch().take(jnp.array([3, 0])))
    np.testing.assert_array_equal(picked.weight_E, [3.0, 0.0])
    np.testing.assert_array_equal(picked.inputs_ER.token_BT[:, 0], [[9, 10, 11], [0, 1, 2]])
    assert picked.sampling_logprob_ERT is None
