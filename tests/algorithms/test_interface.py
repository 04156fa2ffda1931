"""What holds of every algorithm, whatever it learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from dar_jax.algorithms import ALGORITHMS
from dar_jax.config.run_config import RunConfig
from dar_jax.settings.fields import one_of
from tests.algorithms import golden
from tests.algorithms.golden import REWARD, SAMPLING, THETA, gradient_of, loss_of, regress

ONLINE = [name for name, kind in ALGORITHMS.items() if "rewards" in kind.needs]
every = pytest.mark.parametrize("name", ALGORITHMS)
online = pytest.mark.parametrize("name", ONLINE)


def test_the_names_are_those_of_the_classes():
    assert all(name == kind.name for name, kind in ALGORITHMS.items())
    assert {"dar", "awr", "best_of_n", "online_dpo", "rloo", "grpo", "dual_rebel"} < set(ALGORITHMS)


@every
def test_a_name_alone_is_a_whole_setting_and_an_unknown_one_is_refused(name):
    adapter = TypeAdapter(one_of(ALGORITHMS, "dar"))
    assert adapter.validate_python({"name": name}) == ALGORITHMS[name]()
    with pytest.raises(ValidationError, match="tau_max"):
        adapter.validate_python({"name": name, "tau_max": 1})


@every
def test_examples_and_their_rows_are_as_declared(name):
    algorithm = ALGORITHMS[name]()
    batch, _ = algorithm.weigh(golden.rollouts(), golden.rewards())
    completions = 4 if "rewards" in algorithm.needs else algorithm.rows_per_example
    assert batch.mask_completion_ERT.shape[:2] == (
        algorithm.examples(8 // completions, completions),
        algorithm.rows_per_example,
    )


@online
@pytest.mark.parametrize("junk", [1e9, np.nan])
def test_a_failed_judgement_never_becomes_a_number(name, junk):
    """Trap: whatever stands where the judge failed moves neither loss nor gradient nor a metric."""
    algorithm, valid = ALGORITHMS[name](), np.arange(8).reshape(2, 4) != 6
    clean, dirty = (golden.rewards(np.where(valid, REWARD, number), valid) for number in (5.0, junk))
    assert loss_of(algorithm, judged=clean) == loss_of(algorithm, judged=dirty)
    gradient = gradient_of(algorithm, judged=dirty)
    np.testing.assert_array_equal(gradient, gradient_of(algorithm, judged=clean))
    assert gradient[6] == 0
    assert np.isfinite(gradient).all()
    one, other = (algorithm.weigh(golden.rollouts(), each)[1] for each in (clean, dirty))
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key], err_msg=key)


@online
def test_nothing_judged_teaches_nothing(name):
    nothing = golden.rewards(np.full((2, 4), np.nan), False)
    assert loss_of(ALGORITHMS[name](), judged=nothing) == 0
    assert not gradient_of(ALGORITHMS[name](), judged=nothing).any()


@every
def test_an_update_may_be_cut_into_micro_batches(name):
    algorithm = ALGORITHMS[name]()
    batch, _ = algorithm.weigh(golden.rollouts(), golden.rewards())
    row_ER = batch.inputs_ER.token_BT[..., 0]
    logprob_ERT = jnp.float32(THETA).reshape(-1)[row_ER][..., None]
    whole, parts = regress(algorithm, logprob_ERT, batch), []
    for index in (slice(0, 1), slice(1, None)):
        part = jax.tree.map(lambda leaf, index=index: leaf[index], batch)
        parts.append(regress(algorithm, logprob_ERT[index], part))
    summed = jax.tree.map(jnp.add, *parts)
    np.testing.assert_allclose(summed[0], whole[0], rtol=1e-5)
    assert set(whole[1]) == set(parts[0][1])


@every
def test_padding_moves_nothing(name):
    algorithm = ALGORITHMS[name]()
    spoken = golden.rollouts()

    def padded(array_BT, filling):
        return jnp.pad(array_BT, ((0, 0), (0, 1)), constant_values=filling)

    longer = dataclasses.replace(
        spoken,
        inputs_B=dataclasses.replace(spoken.inputs_B, token_BT=padded(spoken.inputs_B.token_BT, 0)),
        mask_completion_BT=padded(spoken.mask_completion_BT, False),
        **{
            field: padded(getattr(spoken, field), 7.0)
            for field in ("sampler_logprob_BT", "sampling_logprob_BT", "ref_logprob_BT", "sampling_value_BT")
        },
    )
    longer = dataclasses.replace(
        longer, inputs_B=dataclasses.replace(longer.inputs_B, mask_BS=jnp.ones((8, 3), bool).at[:, 2].set(False))
    )
    batch, _ = algorithm.weigh(longer, golden.rewards())

    def loss(filling):
        row_ER = batch.inputs_ER.token_BT[..., 0]
        logprob_ERT = jnp.float32(THETA).reshape(-1)[row_ER][..., None]
        logprob_ERT = jnp.concatenate([logprob_ERT, jnp.full_like(logprob_ERT, filling)], -1)
        return regress(algorithm, logprob_ERT, batch)[0] / jnp.maximum(batch.mask_E.sum(), 1)

    np.testing.assert_allclose(loss(-3.0), loss_of(algorithm), rtol=1e-6)
    assert jax.grad(loss)(-3.0) == 0


@online
def test_a_completion_that_is_cut_off_loses_the_penalty(name):
    ended = [False, *[True] * 7]
    penalized = ALGORITHMS[name](missing_eos_penalty=2.0)
    reward = REWARD - 2.0 * (np.arange(8).reshape(2, 4) == 0)
    got = loss_of(penalized, spoken=golden.rollouts(ended=ended))
    np.testing.assert_allclose(got, loss_of(ALGORITHMS[name](), judged=golden.rewards(reward)), rtol=1e-6)


@online
def test_a_better_completion_is_never_made_less_likely_than_a_worse_one(name):
    """Of two completions of equal standing with both policies, the gradient prefers the one with the higher reward."""
    even = np.full((2, 4), -40.0)
    gradient = gradient_of(ALGORITHMS[name](), even, spoken=golden.rollouts(even, even)).reshape(2, 4)
    ascent_PG = -gradient
    assert (ascent_PG.argmax(1) == REWARD.argmax(1)).all()
    assert ascent_PG[0, 1] > ascent_PG[0, 0]
    assert ascent_PG[1, 1] > ascent_PG[1, 0]


@online
def test_no_step_from_the_reference_is_made_by_log_pi_t_or_log_pi_ref_alone(name):
    """Equal rewards at pi_t = pi_ref: no completion is preferred, but for the first of equals where one is picked."""
    equal, at = golden.rewards(np.full((2, 4), 5.0)), golden.rollouts(SAMPLING, SAMPLING)
    gradient = gradient_of(ALGORITHMS[name](), SAMPLING, equal, at)
    assert np.ptp(gradient) < 1e-6 or name == "best_of_n"


@every
def test_a_run_may_name_it(name):
    given = {"policy": {"path": "p"}, "data": {"path": "d"}, "judge": {"name": "scripted"}}
    config = TypeAdapter(RunConfig).validate_python(given | {"algorithm": {"name": name}})
    assert config.algorithm == ALGORITHMS[name]()
