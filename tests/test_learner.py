"""The learner on one device, then the same numbers however rows, padding, micro-batches and devices are laid out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from dar_jax import models, parallel
from dar_jax.algorithms import DAR, SFT
from dar_jax.algorithms.ppo import PPO
from dar_jax.batches import Batch, Inputs, Rewards, Rollouts, check
from dar_jax.learner import APPLIED, COUNTED, Learner, Learning
from dar_jax.learning.optimizers import Adafactor, AdamW
from dar_jax.parallel import MeshShape, to_host
from tests.nano import NANO

PROMPTS, GROUP, SIZE, LENGTH = 4, 4, 14, 6
ROWS = PROMPTS * GROUP
ONE = MeshShape(devices=1)
# Adafactor and Adam divide a gradient by its own size: where it is zero they step by its rounding noise. A large
# epsilon keeps an update proportional to its gradient, and two layouts comparable.
LEARNING = Learning(
    optimizer=AdamW(learning_rate=1e-2, warmup_updates=2, epsilon=10.0),
    updates_per_batch=2,
    updates="passes",
    compute_dtype="float32",
    logprob_chunk=4,
    remat=False,
)


@pytest.fixture(scope="module")
def params():
    """The parameters as host arrays: an update consumes what it is given."""
    return to_host(jax.jit(models.init, static_argnums=0)(NANO, jax.random.key(0)))


@pytest.fixture(scope="module")
def reference(params):
    random = np.random.default_rng(3)
    return jax.tree.map(lambda leaf: leaf + 0.02 * random.normal(size=leaf.shape).astype(np.float32), params)


@pytest.fixture(scope="module")
def rollouts():
    random = np.random.default_rng(0)
    prompt_B, completion_B = random.integers(2, 9, ROWS), random.integers(1, LENGTH + 1, ROWS)
    position_S = np.arange(SIZE) - (SIZE - LENGTH)
    mask_BS = (position_S >= -prompt_B[:, None]) & (position_S < completion_B[:, None])
    return Rollouts(
        inputs_B=Inputs(token_BT=random.integers(0, NANO.vocab_size, (ROWS, SIZE)).astype(np.int32), mask_BS=mask_BS),
        mask_completion_BT=mask_BS[:, -LENGTH:],
        ended_B=completion_B < LENGTH,
    )


@pytest.fixture(scope="module")
def rewards():
    reward_PG = np.random.default_rng(1).uniform(1, 10, (PROMPTS, GROUP)).astype(np.float32)
    reward_PG[0, 1] = reward_PG[2, 3] = np.nan
    return Rewards(reward_PG=reward_PG, valid_PG=np.isfinite(reward_PG))


@pytest.fixture(scope="module")
def learner():
    return build()


def build(shape=ONE, algorithm=None, **changes):
    return Learner(dataclasses.replace(LEARNING, **changes), NANO, algorithm or DAR(), shape.build())


def put(tree):
    """Copy to the device: what is donated must not be the caller's memory."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), tree)


def step(learner, params, reference, rollouts, rewards):
    """Make one step of the spine: (metrics by name, parameters, batch), all on the host."""
    with jax.set_mesh(learner.mesh):
        state = learner.init(put(params))
        scored = learner.recall(state, learner.reference(put(reference)), check(parallel.rows(rollouts, learner.mesh)))
        batch, metrics = learner.weigh(scored, parallel.rows(rewards, learner.mesh))
        seen = [metrics]
        for index in range(learner.settings.updates_per_batch):
            state, updated = learner.regress(state, learner.part(batch, learner.parts(batch, jax.random.key(5))[index]))
            seen.append(updated)
    names = {f"{number} {name}": value for number, each in enumerate(to_host(seen)) for name, value in each.items()}
    return names, to_host(state.params), to_host(batch)


def updated(learner, params, batch, times=2):
    """Make updates on the whole of a batch: (metrics of each, parameters) on the host."""
    with jax.set_mesh(learner.mesh):
        state, seen = learner.init(put(params)), []
        for _ in range(times):
            state, metrics = learner.regress(state, parallel.rows(batch, learner.mesh))
            seen.append(metrics)
    return to_host(seen), to_host(state.params)


@pytest.fixture(scope="module")
def alone(learner, params, reference, rollouts, rewards):
    return step(learner, params, reference, rollouts, rewards)


@pytest.fixture(scope="module")
def batch(alone):
    return alone[2]


@pytest.fixture(scope="module")
def expected(alone):
    names, trained, _ = alone
    metrics = [{key[2:]: value for key, value in names.items() if key[0] == number} for number in "12"]
    return metrics, trained


def assert_same(one, other, rtol=1e-5, atol=1e-5):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), one, other)


@pytest.mark.parametrize(
    ("shape", "micro"),
    [
        pytest.param(MeshShape(data=2, tensor=2), None, id="data2-fsdp2-tensor2"),
        pytest.param(MeshShape(data=2, fsdp=1, tensor=4), 4, id="data2-tensor4-micro4", marks=pytest.mark.slow),
        pytest.param(MeshShape(), None, id="fsdp8", marks=pytest.mark.slow),
        pytest.param(MeshShape(fsdp=1, tensor=8), 2, id="tensor8-micro2", marks=pytest.mark.slow),
    ],
)
def test_eight_devices_give_the_one_device_numbers(shape, micro, alone, params, reference, rollouts, rewards):
    """A whole step: recall, weigh, two updates."""
    metrics, trained, batch = step(build(shape, micro_batch_size=micro), params, reference, rollouts, rewards)
    assert_same(metrics, alone[0], rtol=1e-4)
    assert_same(trained, alone[1])
    assert_same(batch, alone[2], rtol=1e-4)


def test_every_leaf_of_the_state_keeps_its_place_and_moments_lie_as_their_parameters(params):
    learner = build(MeshShape(data=2, tensor=2), optimizer=AdamW())
    state = learner.init(params)
    rest, layers = (each[0] for each in state.optimizer)
    for tree in (state.params, rest.mu | layers.mu, rest.nu | layers.nu):
        assert jax.tree.map(lambda leaf: leaf.sharding, tree) == learner.param_shardings
    up = state.params["layers"]["mlp"]["up"]["kernel"]
    assert up.sharding.shard_shape(up.shape) == (2, 16, 32)
    assert layers.count.sharding.is_fully_replicated


def test_the_loss_is_the_weighted_mean_over_counted_examples(learner, params, batch, expected):
    log_pi_t = np.where(batch.mask_completion_ERT, batch.sampling_logprob_ERT, 0).sum((1, 2))
    counted = batch.mask_E
    assert counted.sum() == ROWS - 2
    first = expected[0][0]
    assert first["loss"] == pytest.approx(-(batch.weight_E * log_pi_t)[counted].mean(), rel=1e-5)
    assert first["logprobs/completion"] == pytest.approx(log_pi_t[counted].mean(), rel=1e-5)
    assert first["kl/sampling_k3"] == pytest.approx(0.0, abs=1e-6)
    assert expected[0][1]["kl/sampling_k3"] > 0
    rates = [metrics["optimizer/learning_rate"] for metrics in expected[0]]
    np.testing.assert_allclose(rates, [5e-3, 1e-2], rtol=1e-6)


def test_an_update_raises_what_has_weight(expected):
    assert expected[0][1]["loss"] < expected[0][0]["loss"]


@pytest.mark.parametrize(("micro", "remat"), [(8, False), (2, True)])
def test_gradient_accumulation_changes_the_loss(micro, remat, params, batch, expected):
    """The counted examples fall unevenly on the micro-batches: means of means would differ."""
    assert len({int(batch.mask_E[a :: ROWS // micro].sum()) for a in range(ROWS // micro)}) > 1
    assert_same(updated(build(micro_batch_size=micro, remat=remat), params, batch), expected)


def test_padding_rows_and_columns_change_nothing(params, batch, expected, learner):
    def padded(path, leaf):
        left = 5 if "inputs_ER" in jax.tree_util.keystr(path) else 0
        right = 3 if leaf.ndim == 3 else 0
        return np.pad(leaf, [(0, 2), (0, 0), (left, right)][: leaf.ndim])

    more = jax.tree_util.tree_map_with_path(padded, batch)
    assert_same(updated(learner, params, check(more)), expected)


def test_group_order_changes_nothing(params, batch, expected, learner):
    order_E = np.random.default_rng(2).permutation(ROWS)
    assert_same(updated(learner, params, batch.take(order_E)), expected)


def test_examples_that_do_not_count_leave_no_trace(params, batch, expected, learner):
    other = dataclasses.replace(
        batch,
        inputs_ER=dataclasses.replace(
            batch.inputs_ER, token_BT=np.where(batch.mask_E[:, None, None], batch.inputs_ER.token_BT, 7)
        ),
        weight_E=np.where(batch.mask_E, batch.weight_E, 20.0).astype(np.float32),
    )
    assert not (batch.weight_E[~batch.mask_E]).any()
    assert_same(updated(learner, params, other), expected, rtol=0, atol=0)


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_step_0_policy_equal_to_reference_has_a_log_ratio_of_exactly_0(compute_dtype, params, rollouts):
    learner = build(MeshShape(data=2, tensor=2), compute_dtype=compute_dtype, micro_batch_size=8)
    with jax.set_mesh(learner.mesh):
        state = learner.init(params)
        scored = learner.recall(state, learner.reference(state.params), parallel.rows(rollouts, learner.mesh))
    assert scored.sampling_logprob_BT.dtype == jnp.float32
    np.testing.assert_array_equal(scored.ref_logprob_BT, scored.sampling_logprob_BT)


def test_a_reference_in_the_hosts_memory_gives_the_same_bits(params, reference, rollouts):
    learner = build(MeshShape(data=2, tensor=2), compute_dtype="bfloat16")
    with jax.set_mesh(learner.mesh):
        state, placed = learner.init(put(params)), parallel.rows(rollouts, learner.mesh)
        near, away = (learner.reference(put(reference), where) for where in ("device", "host"))
        assert {leaf.sharding.memory_kind for leaf in jax.tree.leaves(away)} == {"pinned_host"}
        one, other = (learner.recall(state, each, placed).ref_logprob_BT for each in (near, away))
        laid = learner.decode_reference(away)
    np.testing.assert_array_equal(one, other)
    assert_same(to_host(laid), to_host(near), rtol=0, atol=0)
    up = laid["layers"]["mlp"]["up"]["kernel"]
    assert (up.sharding.memory_kind, up.sharding.shard_shape(up.shape)) == ("device", (2, 32, 8))


def test_recall_in_micro_batches_keeps_the_order_of_rows(params, rollouts, batch):
    learner = build(micro_batch_size=4)
    with jax.set_mesh(learner.mesh):
        scored = learner.recall(learner.init(put(params)), put(params), put(rollouts))
    np.testing.assert_allclose(scored.sampling_logprob_BT, batch.sampling_logprob_ERT[:, 0], atol=1e-5)


def test_an_algorithm_that_needs_no_log_probs_gets_none(params, rollouts):
    learner = build(algorithm=SFT())
    scored = learner.recall(learner.init(put(params)), None, put(rollouts))
    assert scored.sampling_logprob_BT is None
    assert scored.ref_logprob_BT is None


def numbered(count=16):
    return Batch(
        inputs_ER=Inputs(token_BT=jnp.zeros((count, 1, 2), jnp.int32), mask_BS=jnp.ones((count, 1, 2), bool)),
        mask_completion_ERT=jnp.ones((count, 1, 1), bool),
        weight_E=jnp.arange(count, dtype=jnp.float32),
        mask_E=jnp.ones(count, bool),
    )


def test_minibatches_are_disjoint_and_cover_the_batch():
    def cut(seed, shape=ONE):
        learner = build(shape, updates_per_batch=4, updates="minibatches")
        batch, key = parallel.rows(numbered(), learner.mesh), jax.random.key(seed)
        return [np.asarray(learner.part(batch, index_E).weight_E) for index_E in learner.parts(batch, key)]

    assert [len(part) for part in cut(0)] == [4] * 4
    np.testing.assert_array_equal(np.sort(np.concatenate(cut(0))), np.arange(16))
    np.testing.assert_array_equal(cut(0), cut(0, MeshShape(data=2, tensor=2)))
    assert not np.array_equal(cut(0), cut(1))


def test_passes_go_over_the_whole_batch():
    learner, batch = build(), numbered()
    assert all(learner.part(batch, index_E) is batch for index_E in learner.parts(batch, jax.random.key(0)))


def test_a_micro_batch_size_that_does_not_divide_is_refused(params, batch):
    with pytest.raises(ValueError, match=r"16 rows are not a multiple of learning.micro_batch_size=5"):
        updated(build(micro_batch_size=5), params, batch)


def test_the_old_state_is_donated_and_the_reference_lives_on(learner, params, batch):
    with jax.set_mesh(learner.mesh):
        placed = jax.device_put(put(params), learner.param_shardings)
        state, reference = learner.init(placed), learner.reference(placed)
        new, _ = learner.regress(state, parallel.rows(batch, learner.mesh))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.optimizer[1][0].mu)))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((reference, new)))
    assert_same(to_host(reference), params, rtol=0, atol=0)
    assert int(new.update) == 1


@pytest.mark.parametrize(
    ("algorithm", "spoilt"), [(DAR(), "weight_E"), (PPO(), "return_ERT")], ids=["dar", "ppo, which has a head"]
)
def test_an_update_whose_loss_is_not_finite_changes_no_bit_of_the_state(algorithm, spoilt, params, batch):
    learner = build(algorithm=algorithm, micro_batch_size=8)
    per_token = {name: np.ones_like(batch.sampling_logprob_ERT) for name in ("advantage_ERT", "return_ERT")}
    sound = dataclasses.replace(batch, **per_token)
    values = getattr(sound, spoilt).copy()
    values[np.flatnonzero(batch.mask_E)[3]] = np.nan
    with jax.set_mesh(learner.mesh):
        state, metrics = learner.regress(learner.init(put(params)), parallel.rows(sound, learner.mesh))
        assert metrics[APPLIED] == 1
        before = to_host(state)
        bad = dataclasses.replace(sound, **{spoilt: values})
        state, metrics = learner.regress(state, parallel.rows(bad, learner.mesh))
    assert metrics[APPLIED] == 0
    assert np.isnan(metrics["loss"])
    assert_same(to_host(state), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    "optimizer", [AdamW(weight_decay=0.1), Adafactor(weight_decay=0.1)], ids=["adamw", "adafactor"]
)
def test_an_update_in_which_nothing_counts_changes_no_bit_of_the_state(optimizer, params, batch):
    learner = build(optimizer=optimizer, micro_batch_size=8)
    nothing = dataclasses.replace(batch, mask_E=np.zeros_like(batch.mask_E))
    with jax.set_mesh(learner.mesh):
        state, _ = learner.regress(learner.init(put(params)), parallel.rows(batch, learner.mesh))
        before = to_host(state)
        state, metrics = learner.regress(state, parallel.rows(nothing, learner.mesh))
    assert (metrics[COUNTED], metrics[APPLIED]) == (0, 0)
    assert_same(to_host(state), before, rtol=0, atol=0)


def test_bf16_weights_do_not_move_at_lr_1e_6_the_float32_masters_do(params, batch):
    learner = build(compute_dtype="bfloat16", optimizer=Adafactor(warmup_updates=0))
    metrics, trained = updated(learner, params, batch, times=1)
    assert metrics[0]["loss"].dtype == np.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(trained)} == {np.dtype(np.float32)}
    moved = jax.tree.map(lambda leaf, start: float((leaf != start).mean()), trained, params)
    assert min(jax.tree.leaves(moved)) > 0.3
    after, before = (learner.reference(put(tree))["layers"]["mlp"]["up"]["kernel"] for tree in (trained, params))
    assert after.dtype == jnp.bfloat16
    assert (after == before).mean() > 0.98


def test_decode_params_hold_whole_widths_in_the_compute_dtype(params):
    learner = build(MeshShape(data=2, tensor=2), compute_dtype="bfloat16")
    up = learner.decode_params(learner.init(params))["layers"]["mlp"]["up"]["kernel"]
    assert up.dtype == jnp.bfloat16
    assert up.sharding.shard_shape(up.shape) == (2, 32, 8)


def test_a_state_divides_into_the_parts_a_checkpoint_keeps_and_back(learner, params):
    state = learner.init(put(params))
    again = type(state).of(state.trees(), state.frozen)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    assert all(one is other for one, other in zip(*map(jax.tree.leaves, (again, state)), strict=True))


def test_learning_settings_are_the_papers_by_default():
    learning = Learning()
    assert (learning.updates_per_batch, learning.updates, learning.logprob_temperature) == (4, "minibatches", 1.0)
    assert learning.optimizer == Adafactor(learning_rate=1e-6, warmup_updates=15)


@pytest.mark.parametrize(
    "wrong", [{"updates_per_batch": 0}, {"updates": "epochs"}, {"compute_dtype": "float16"}, {"learning_rate": 1.0}]
)
def test_learning_settings_refuse_what_cannot_be(wrong):
    with pytest.raises(ValidationError):
        Learning(**wrong)
