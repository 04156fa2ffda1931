"""Gradients that are added where they lie, on functions whose gradients are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dar_jax.models import cast_with_grad_accumulation, layer_at, set_layer, unstacked
from dar_jax.models.stack import scan_layers, scan_layers_accumulating_grads

LAYERS = {"scale": jnp.array([2.0, -1.0, 0.5]), "shift": jnp.array([0.1, 0.2, 0.3])}
FIXED = jnp.array([1.0, 10.0, 100.0])


def read(learnt, fixed, hidden, context):
    return learnt["scale"] * hidden**2 + learnt["shift"] * fixed + context


def plain(layers, hidden):
    for index in range(3):
        hidden = read(layer_at(layers, index), FIXED[index], hidden, 0.5)
    return hidden


def halved(layer):
    return {name: leaf / 2 for name, leaf in layer.items()}


@pytest.mark.parametrize("read", [read, jax.checkpoint(read, prevent_cse=False)], ids=["kept", "computed again"])
def test_the_gradient_is_the_sums_plus_the_layers_own(read):
    sums, hidden = {"scale": jnp.arange(3.0), "shift": -jnp.arange(3.0)}, jnp.array(0.7)
    value, (found, into) = jax.value_and_grad(
        lambda sums, hidden: scan_layers_accumulating_grads(read, halved, LAYERS, FIXED, sums, hidden, jnp.array(0.5)),
        (0, 1),
    )(sums, hidden)
    expected, entering = jax.grad(lambda layers, hidden: plain(halved(layers), hidden), (0, 1))(LAYERS, hidden)
    assert value == pytest.approx(float(plain(halved(LAYERS), hidden)), rel=1e-6)
    assert into == pytest.approx(float(entering), rel=1e-6)
    for name, total in sums.items():
        np.testing.assert_allclose(found[name], total + expected[name], rtol=1e-6)


def test_parameters_are_not_differentiated_twice():
    """By the parameters themselves the gradient is nothing: all of it is in the sums."""
    gradient = jax.grad(
        lambda layers: scan_layers_accumulating_grads(
            read, halved, layers, FIXED, LAYERS, jnp.array(0.7), jnp.array(0.5)
        )
    )(LAYERS)
    assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_what_a_layer_was_given_is_not_kept_again():
    """Weights that are many and what runs through them that is little: the way back needs no second copy of either
    the weights, or what they are cast to, or their gradients.
    """
    layers, width = 8, 256
    weight_LDD = jax.ShapeDtypeStruct((layers, width, width), jnp.float32)

    def apply(weight_DD, fixed, hidden_D, context):
        return jnp.tanh(hidden_D @ weight_DD) * fixed + context

    def value(sums_LDD, weight_LDD, hidden_D):
        return scan_layers_accumulating_grads(
            apply, lambda leaf: 2 * leaf, weight_LDD, jnp.ones(layers), sums_LDD, hidden_D, 0.5 * hidden_D
        ).sum()

    gradient = jax.jit(jax.grad(value), donate_argnums=0)
    compiled = gradient.lower(weight_LDD, weight_LDD, jax.ShapeDtypeStruct((width,), jnp.float32)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 0.5 * weight_LDD.size * 4


@pytest.mark.parametrize("kept", [jnp.bfloat16, jnp.float32])
def test_sums_keep_their_dtype(kept):
    """A weight is lent in the compute dtype, its gradient added in that of the sum; bfloat16 has no 257."""
    total = jnp.full(3, 256.0, kept)
    lent = cast_with_grad_accumulation(jnp.ones(3), total, jnp.bfloat16)
    assert lent.dtype == jnp.bfloat16
    found = jax.grad(
        lambda total: cast_with_grad_accumulation(jnp.ones(3), total, jnp.bfloat16).sum().astype(jnp.float32)
    )(total)
    assert found.dtype == kept
    np.testing.assert_array_equal(found.astype(jnp.float32), 257.0 if kept == jnp.float32 else 256.0)


def test_one_layer_is_taken_and_set():
    assert layer_at(LAYERS, 1)["scale"] == -1.0
    np.testing.assert_array_equal(set_layer(LAYERS, {"scale": 9.0, "shift": 8.0}, 1)["scale"], [2.0, 9.0, 0.5])


def test_listed_layers_are_scanned_as_stacked_ones_are_and_give_lists():
    """Whether all of them are listed or some alone."""

    def step(hidden, layer):
        params, cached, fixed = layer
        hidden = read(params, fixed, hidden, cached)
        return hidden, (cached + hidden, hidden)

    cached, start = jnp.array([0.5, 0.25, 0.125]), jnp.array(0.7)
    expected, stacks = scan_layers(step, start, (LAYERS, cached, FIXED))
    for layers in ((LAYERS, unstacked(cached), FIXED), (unstacked(LAYERS), unstacked(cached), FIXED)):
        hidden, lists = scan_layers(step, start, layers)
        assert hidden == pytest.approx(float(expected), rel=1e-6)
        assert [type(each) for each in lists] == [list, list]
        np.testing.assert_allclose(jnp.array(lists), jnp.array(stacks), rtol=1e-6)
