import jax.numpy as jnp
import numpy as np

from dar_jax.algorithms import SFT
from dar_jax.batches import Inputs, Rollouts, check

ROLLOUTS = Rollouts(
    inputs_B=Inputs(token_BT=jnp.zeros((2, 4), jnp.int32), mask_BS=jnp.ones((2, 4), bool)),
    mask_completion_BT=jnp.array([[True, True], [True, False]]),
    ended_B=jnp.array([True, False]),
)


def test_sft_asks_for_nothing_and_takes_any_group_size():
    assert SFT.needs == frozenset()
    assert SFT().reject_group_size(1) is None


def test_sft_weighs_every_example_one():
    batch, metrics = SFT().weigh(ROLLOUTS)
    check(batch)
    np.testing.assert_array_equal(batch.weight_E, 1.0)
    assert batch.mask_E.all()
    assert batch.sampling_logprob_ERT is None
    assert metrics["completions/clipped_ratio"] == 0.5


def test_sft_loss_is_the_negative_log_likelihood_of_the_completions():
    batch, _ = SFT().weigh(ROLLOUTS)
    loss, metrics = SFT().regress(jnp.array([[[-1.0, -2.0]], [[-4.0, jnp.nan]]]), batch)
    assert float(loss) == 7.0
    assert set(metrics) == {"loss", "logprobs/completion"}
