from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dar_jax import models, parallel
from dar_jax.batches import Inputs
from dar_jax.models.rope import Rope
from tests.models.score import TINY, draw, logits, logprob

TIED = replace(TINY, family="qwen2", tied_head=True, qkv_bias=True, qk_norm=None, kv_heads=4)


@pytest.fixture(scope="module")
def params():
    return draw(TINY)


@pytest.fixture(scope="module")
def token_BT():
    return jax.random.randint(jax.random.key(1), (4, 9), 0, TINY.vocab_size)


def bind_first_inside_a_trace(config):
    return jax.jit(lambda params, token: logits(config, params, token))


@pytest.mark.parametrize("config", [TINY, TIED])
def test_shapes_axes_and_numbers_have_one_structure(config):
    shapes, axes = models.abstract(config), models.logical_axes(config)
    params = jax.eval_shape(lambda: models.init(config, jax.random.key(0)))
    is_axes = {"is_leaf": lambda node: isinstance(node, tuple)}
    assert jax.tree.structure(shapes) == jax.tree.structure(params) == jax.tree.structure(axes, **is_axes)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), shapes) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), params
    )
    sized = jax.tree.map(lambda names: tuple(config.sizes[name] for name in names), axes, **is_axes)
    assert sized == jax.tree.map(lambda leaf: leaf.shape, shapes)
    assert ("head" in params) is not config.tied_head


def test_binding_first_inside_a_trace_leaks_nothing(token_BT):
    config = replace(TINY, rope=Rope(base=4321.0))
    params = draw(TINY)
    traced = bind_first_inside_a_trace(config)(params, token_BT)
    np.testing.assert_array_equal(traced, logits(config, params, token_BT))


def test_random_weights_have_the_spread_of_the_config_and_no_two_layers_agree():
    config = replace(TINY, width=128, init_std=0.02)
    params = jax.jit(models.init, static_argnums=0)(config, jax.random.key(0))
    for leaf in (params["embed"], params["head"], params["layers"]["mlp"]["gate"]["kernel"]):
        assert np.std(leaf) == pytest.approx(0.02, rel=0.05)
    query = params["layers"]["attention"]["query"]["kernel"]
    assert np.abs(query[0] - query[1]).min() > 0
    np.testing.assert_array_equal(params["layers"]["mlp_norm"]["scale"], 1)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(("config", "tokens"), [(TINY, 1), (TIED, 1), (TINY, 3)])
def test_decoding_some_tokens_at_a_time_is_the_full_pass(config, tokens, apart, token_BT):
    params = draw(config, seed=2)
    full = logits(config, params, token_BT)
    cache = models.Cache.zeros(config, *token_BT.shape, jnp.float32)
    mask = jnp.ones(token_BT.shape, bool)
    if apart:
        params, cache = {**params, "layers": models.unstacked(params["layers"])}, models.unstacked(cache)

    traces = []

    @jax.jit
    def step(cache, offset):
        traces.append(offset)
        model = models.bind(config, params)
        token = jax.lax.dynamic_slice_in_dim(token_BT, offset, tokens, axis=1)
        position = jnp.broadcast_to(offset + jnp.arange(tokens), token.shape)
        hidden, cache = model(Inputs(token_BT=token, mask_BS=mask), position_BT=position, cache=cache, offset=offset)
        return model.logits(hidden), cache

    for offset in range(0, token_BT.shape[1], tokens):
        found, cache = step(cache, jnp.int32(offset))
        np.testing.assert_allclose(found, full[:, offset : offset + tokens], rtol=0, atol=1e-5)
    assert len(traces) == 1


def test_pads_attended_as_prompt(params, token_BT):
    """What stands at a masked position does not matter, and a masked row stays finite with its gradient."""
    mask = np.ones(token_BT.shape, bool)
    mask[:, :3], mask[0] = False, False
    found = logits(TINY, params, token_BT, mask)
    other = logits(TINY, params, token_BT.at[:, :3].set(0), mask)
    np.testing.assert_array_equal(found[1:, 3:], other[1:, 3:])
    gradient = jax.jit(jax.grad(lambda params: jnp.sum(logits(TINY, params, token_BT, mask) ** 2)))(params)
    assert all(np.isfinite(leaf).all() for leaf in (found, *jax.tree.leaves(gradient)))


@pytest.mark.parametrize("remat", [True, False])
def test_gradients_added_layer_by_layer_are_those_of_the_whole(params, token_BT, remat):
    """The gradient by the sums is the sums plus what differentiation gives; the value is the same."""

    def loss(params, gradients=None):
        return jnp.mean(logits(TINY, params, token_BT, gradients=gradients, remat=remat) ** 2)

    value, gradient = jax.value_and_grad(loss)(params)
    sums = draw(TINY)["layers"]
    again, found = jax.jit(jax.value_and_grad(loss, 1))(params, sums)
    np.testing.assert_allclose(again, value, rtol=1e-6)
    expected = jax.tree.map(jnp.add, sums, gradient["layers"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)


@pytest.mark.parametrize(
    ("attention", "primitive", "again"),
    [("xla", "dot_general", 2), ("splash", "dot_general", 0), ("splash", "pallas_call", 0)],
)
def test_without_remat_only_scores_and_what_they_mix_are_computed_again(attention, primitive, again, params, token_BT):
    """Beside what plain differentiation computes, which keeps all; with remat every product and kernel is again."""
    config = replace(TINY, attention=attention)

    def count(remat, *sums):
        def value(layers, *sums):
            return logits(config, {**params, "layers": layers}, token_BT, None, *sums, remat=remat).sum()

        gradient = jax.make_jaxpr(jax.grad(value, argnums=len(sums)))(params["layers"], *sums)
        return str(gradient).count(f" {primitive}[")

    plain = count(False)
    assert plain > 0
    assert count(False, params["layers"]) == plain + again < count(True, params["layers"])


def test_bfloat16_weights_compute_in_bfloat16_and_score_in_float32(params, token_BT):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    mask, empty = jnp.ones(token_BT.shape, bool), models.Cache.zeros(TINY, *token_BT.shape)
    model = models.bind(TINY, half)
    hidden, cache = jax.eval_shape(lambda: model(Inputs(token_BT=token_BT, mask_BS=mask), cache=empty))
    assert hidden.dtype == cache.key_LBKSH.dtype == jnp.bfloat16
    found = logits(TINY, half, token_BT)
    assert found.dtype == jnp.float32
    gap = logprob(found, token_BT) - logprob(logits(TINY, params, token_BT), token_BT)
    assert 0 < np.abs(gap).max() < 0.3


def jaxpr(config, learning=False, cached=False):
    """Trace a pass over two rows of six tokens."""
    mask = jnp.ones((2, 6), bool)

    def run(params, token, cache, gradients):
        model = models.bind(config, params)
        hidden, cache = model(Inputs(token_BT=token, mask_BS=mask), cache=cache, grad_sums=gradients)
        return model.logits(hidden), cache

    token = jax.ShapeDtypeStruct((2, 6), jnp.int32)
    cache = jax.eval_shape(lambda: models.Cache.zeros(config, 2, 6)) if cached else None
    params = models.abstract(config)
    return jax.make_jaxpr(run)(params, token, cache, params["layers"] if learning else None)


@pytest.mark.parametrize("learning", [False, True])
def test_the_program_does_not_grow_with_depth(learning):
    few, many = (len(str(jaxpr(replace(TINY, layers=layers), learning)).splitlines()) for layers in (11, 77))
    assert few == many


def test_layer_scan_returning_weights_doubles_memory():
    """The scan carries the hidden states and gives back the cache: three arrays, no weight."""
    scans = [line for line in jaxpr(TINY, cached=True).eqns if line.primitive.name == "scan"]
    shapes = [tuple(var.aval.shape for var in line.outvars) for line in scans]
    cache = (TINY.layers, 2, TINY.kv_heads, 6, TINY.head_size)
    assert shapes == [((2, 6, TINY.width), cache, cache)]


@pytest.mark.parametrize("config", [TINY, TIED])
def test_eight_devices_compute_what_one_does(config, token_BT):
    params = draw(config)
    expected = logits(config, params, token_BT)
    mesh = parallel.MeshShape(fsdp=4, tensor=2).build()
    places = parallel.shardings(models.abstract(config), models.logical_axes(config), mesh)
    with jax.set_mesh(mesh):
        spread = jax.device_put(params, places)
        assert not spread["layers"]["mlp"]["gate"]["kernel"].sharding.is_fully_replicated
        found = logits(config, spread, parallel.rows(token_BT, mesh), np.ones(token_BT.shape, bool))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
