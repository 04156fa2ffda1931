"""The sampler on one device, then the same samples however the batch around them and the devices are laid out."""

import functools as ft
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_jax import models, parallel
from dar_jax.batches import Inputs
from dar_jax.learning.scoring import completion_logprobs
from dar_jax.parallel import MeshShape, decode_mesh, to_host
from dar_jax.sampling import Sampler, Sampling
from dar_jax.sampling.sampler import bucket
from tests.nano import NANO

LENGTH, GROUP = 10, 4
EOS_IDS = frozenset({2, 5, 11, 23, 40, 41})
SETTINGS = Sampling(max_prompt_length=64, max_completion_length=LENGTH)
PROMPTS = [list(range(7, 12)), [3], list(range(20, 36)), [9, 9, 60, 1]]
IDS = [17, 4, 1_000_000, 0]
KEY = jax.random.key(1)


@pytest.fixture(scope="module")
def params():
    return jax.jit(models.init, static_argnums=0)(NANO, jax.random.key(0))


def sampler(mesh=None, settings=SETTINGS, eos_ids=EOS_IDS, pad_id=0, **options):
    mesh = mesh or MeshShape(devices=1).build()
    return Sampler(settings, NANO, mesh, eos_ids=eos_ids, pad_id=pad_id, **options)


@pytest.fixture(scope="module")
def ours():
    return sampler()


@pytest.fixture(scope="module")
def rollouts(ours, params):
    return to_host(ours.sample(params, PROMPTS, IDS, GROUP, KEY))


def spoken(rollouts, rows=slice(None)):
    """What the completions of a batch are: tokens, masks, ends, log-probs of these rows."""
    length = rollouts.mask_completion_BT.shape[1]
    fields = (
        rollouts.inputs_B.token_BT[:, -length:],
        rollouts.mask_completion_BT,
        rollouts.ended_B,
        rollouts.sampler_logprob_BT,
    )
    return [np.asarray(field)[rows] for field in fields]


def assert_same(one, other):
    for a, b in zip(one[:3], other[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(one[3], other[3], atol=1e-4)


def rows_of(prompt):
    return slice(prompt * GROUP, (prompt + 1) * GROUP)


def test_rows_are_prompt_completion_padding(rollouts):
    assert rollouts.inputs_B.token_BT.shape == (16, 16 + LENGTH)
    for row in range(16):
        prompt = PROMPTS[row // GROUP]
        np.testing.assert_array_equal(rollouts.inputs_B.token_BT[row, :16][rollouts.inputs_B.mask_BS[row, :16]], prompt)
        assert rollouts.inputs_B.mask_BS[row, 16 - len(prompt) : 16].all()
    np.testing.assert_array_equal(rollouts.inputs_B.mask_BS[:, 16:], rollouts.mask_completion_BT)


def test_any_eos_ends_a_completion_lies_inside_its_mask_and_nothing_follows(rollouts):
    """Traps: only one EOS id honoured; EOS masked out."""
    token_BT, mask_BT, ended_B, logprob_BT = spoken(rollouts)
    ends = set()
    for token_T, mask_T, ended, logprob_T in zip(token_BT, mask_BT, ended_B, logprob_BT, strict=True):
        first = next((t for t, token in enumerate(token_T) if token in EOS_IDS), None)
        count = LENGTH if first is None else first + 1
        assert ended == (first is not None)
        np.testing.assert_array_equal(mask_T, np.arange(LENGTH) < count)
        assert (token_T[count:] == 0).all()
        assert (logprob_T[count:] == 0).all()
        assert (logprob_T[:count] < 0).all()
        ends |= set() if first is None else {int(token_T[first])}
    assert len(ends) > 1
    assert 0 < ended_B.sum() < len(ended_B)


def test_eos_masked_out_because_pad_is_eos(rollouts, params):
    eos = sorted(EOS_IDS)[0]
    told = sampler(pad_id=eos).sample(params, PROMPTS, IDS, GROUP, KEY)
    token_BT, *rest = spoken(told)
    np.testing.assert_array_equal(token_BT, np.where(rollouts.mask_completion_BT, spoken(rollouts)[0], eos))
    np.testing.assert_array_equal(rest[0], rollouts.mask_completion_BT)
    np.testing.assert_array_equal(rest[1], rollouts.ended_B)


def test_a_fixed_seed_gives_identical_samples_in_a_group(rollouts, params):
    """It must not: without an end, all differ. The end itself changes nothing before it."""
    endless = spoken(sampler(eos_ids=frozenset({64})).sample(params, PROMPTS, IDS, GROUP, KEY))
    assert len({tuple(row) for row in endless[0]}) == len(PROMPTS) * GROUP
    np.testing.assert_array_equal(np.where(rollouts.mask_completion_BT, endless[0], 0), spoken(rollouts)[0])


def test_a_key_gives_the_same_samples_again_and_another_key_others(rollouts, ours, params):
    assert_same(spoken(ours.sample(params, PROMPTS, IDS, GROUP, KEY)), spoken(rollouts))
    other = spoken(ours.sample(params, PROMPTS, IDS, GROUP, jax.random.key(2)))
    assert (other[0] != spoken(rollouts)[0]).any(1).mean() > 0.5


def test_samples_do_not_depend_on_the_batch_around_them(rollouts, ours, params):
    order = [2, 0, 3, 1]
    moved = ours.sample(params, [PROMPTS[p] for p in order], [IDS[p] for p in order], GROUP, KEY)
    for place, prompt in enumerate(order):
        assert_same(spoken(moved, rows_of(place)), spoken(rollouts, rows_of(prompt)))


def test_samples_do_not_depend_on_how_far_the_prompt_is_padded(rollouts, ours, params):
    longer = ours.sample(params, [*PROMPTS[:3], [8] * 21], [*IDS[:3], 6], GROUP, KEY)
    assert longer.inputs_B.token_BT.shape[1] == 24 + LENGTH
    assert_same(spoken(longer, slice(12)), spoken(rollouts, slice(12)))


@pytest.mark.parametrize(
    "share",
    [1, pytest.param(4, marks=pytest.mark.slow), 8],
)
def test_samples_do_not_depend_on_the_devices(share, rollouts, params):
    mesh = decode_mesh(MeshShape(data=2, tensor=2).build(), NANO.kv_heads, share)
    many = sampler(mesh)
    layout = parallel.shardings(models.abstract(NANO), models.logical_axes(NANO), mesh)
    with jax.set_mesh(MeshShape().build()):
        told = many.sample(jax.device_put(params, layout), PROMPTS, IDS, GROUP, KEY)
    assert_same(spoken(told), spoken(rollouts))


def test_a_prompt_that_comes_twice_goes_on_counting_its_samples(rollouts, ours, params):
    """Two places with two samples each are the four samples of one place: shared prefill equals separate ones."""
    once = spoken(rollouts, rows_of(0))
    assert_same(spoken(ours.sample(params, [PROMPTS[0]] * 2, [IDS[0]] * 2, 2, KEY)), once)
    assert_same(spoken(ours.sample(params, [PROMPTS[0]] * 4, [IDS[0]] * 4, 1, KEY)), once)
    endless = sampler(eos_ids=frozenset({64}))
    others = spoken(endless.sample(params, [PROMPTS[0]] * 4, [IDS[0], 1, 2, 3], 1, KEY))
    assert len({tuple(row) for row in others[0]}) == 4


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampler_and_learner_disagree_by_rounding_alone(temperature, params, rollouts):
    if temperature != 1.0:
        rollouts = sampler(logprob_temperature=temperature).sample(params, PROMPTS, IDS, GROUP, KEY)
    scored_BT = completion_logprobs(
        NANO,
        params,
        jax.tree.map(jnp.asarray, rollouts.inputs_B),
        LENGTH,
        temperature=temperature,
    )[0]
    gap_BT = np.where(rollouts.mask_completion_BT, rollouts.sampler_logprob_BT - scored_BT, 0.0)
    assert np.abs(gap_BT).max() < 1e-4


@ft.cache
def full_forward():
    @jax.jit
    def next_logits(params, token_BS, length):
        mask_BS = jnp.arange(token_BS.shape[1])[None] < length
        model = models.bind(NANO, params)
        hidden_BSD, _ = model(Inputs(token_BT=token_BS, mask_BS=mask_BS))
        return model.logits(hidden_BSD[0, length - 1])

    return next_logits


def test_decode_equals_token_by_token_full_forward(params):
    """Greedy, over the whole sequence anew for every token, without cache or left padding."""
    greedy = sampler(settings=Sampling(max_completion_length=LENGTH, temperature=0), eos_ids=frozenset({63}))
    told, mask_BT, *_ = spoken(greedy.sample(params, PROMPTS, IDS, 1, KEY))
    for prompt, token_T, mask_T in zip(PROMPTS, told, mask_BT, strict=True):
        tokens = list(prompt)
        for expected in token_T[mask_T]:
            padded = jnp.array([tokens + [0] * (32 - len(tokens))])
            tokens.append(int(full_forward()(params, padded, len(tokens)).argmax()))
            assert tokens[-1] == expected


class Counted(Sampling):
    """Count how often a token is chosen: once before the loop, then once a turn of it."""

    calls: ClassVar[list[int]] = []

    def __call__(self, logits_BV, key_B):
        jax.debug.callback(lambda: self.calls.append(1))
        return super().__call__(logits_BV, key_B)


@pytest.mark.parametrize("ends", ["at once", "never", "some time"])
def test_the_loop_ends_with_the_last_completion(ends, params):
    eos_ids = {"at once": frozenset(range(64)), "never": frozenset({64}), "some time": frozenset(range(0, 64, 3))}[ends]
    Counted.calls.clear()
    told = sampler(settings=Counted(max_completion_length=24), eos_ids=eos_ids).sample(params, PROMPTS, IDS, 1, KEY)
    jax.effects_barrier()
    longest = int(told.mask_completion_BT.sum(1).max())
    assert len(Counted.calls) == longest
    assert {"at once": longest == 1, "never": longest == 24, "some time": 1 < longest < 24}[ends]
    assert (ends == "never") == (not told.ended_B.any())


def test_log_probs_and_tokens_survive_parameters_in_bf16(params):
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    told = sampler().sample(narrow, PROMPTS, IDS, GROUP, KEY)
    assert told.sampler_logprob_BT.dtype == jnp.float32
    assert np.isfinite(told.sampler_logprob_BT).all()


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_bucket_is_at_least_as_long_and_capped(longest, limit):
    size = bucket(longest, limit)
    assert size >= longest
    assert size <= max(limit, longest)
    assert size <= max(16, 1.5 * longest)
    assert bucket(size, limit) == size


def test_buckets_are_few():
    assert sorted({bucket(n, 10_000) for n in range(1, 129)}) == [16, 24, 32, 48, 64, 96, 128]
    assert {bucket(n, 100) for n in range(97, 101)} == {100}
