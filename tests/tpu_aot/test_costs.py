"""Loops of the TPU compiler's programs, which say nowhere how often they run, against the same without loops."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dar_jax.planning.hlo_costs import program_costs
from dar_jax.planning.topologies import topology
from tests.planning.looped_programs import TURNS, layer, looped, unrolled

pytest.importorskip("libtpu", reason="the TPU's compiler is not installed: pip install 'dar-jax[tpu]'")

LAYERS, ROWS, WIDTH = 6, 256, 512


def gradient(function):
    return jax.grad(lambda hidden, weights: function(hidden, weights).sum(), argnums=(0, 1))


def until(hidden, weights):
    """A loop that may end early, as decoding does."""

    def going(state):
        return (state[0] < 100) & (state[1].max() < 1000)

    return jax.lax.while_loop(going, lambda s: (s[0] + 1, layer(s[1], weights[0])), (1, hidden))


@pytest.fixture(scope="module")
def costs():
    mesh = Mesh(topology("v5e:2x2").devices(), ("chips",))

    def of(function):
        hidden = jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.bfloat16, sharding=NamedSharding(mesh, PartitionSpec("chips")))
        weights = jax.ShapeDtypeStruct(
            (LAYERS, WIDTH, WIDTH), jnp.bfloat16, sharding=NamedSharding(mesh, PartitionSpec(None, "chips"))
        )
        return program_costs(jax.jit(function).lower(hidden, weights).compile().as_text())

    return of


@pytest.mark.parametrize("of", [lambda function: function, gradient], ids=["forward", "gradient"])
def test_loops_count_as_often_as_they_run(costs, of):
    one, other = costs(of(looped)), costs(of(unrolled))
    assert not one.unknown_loops
    assert one.total.flops == pytest.approx(other.total.flops, rel=1e-6)


def test_the_forward_pass_is_what_its_products_are(costs):
    found = costs(looped)
    assert found.total.flops == LAYERS * TURNS * 2 * ROWS * WIDTH * WIDTH / 4
    # Each layer's weights are gathered: three quarters of them come from the other chips.
    assert found.total.collective_bytes["all-gather"] >= LAYERS * WIDTH * WIDTH * 2 * 3 / 4


def test_a_loop_that_may_end_early_is_bounded(costs):
    found = costs(until)
    assert found.open_trips == 99
    assert found.open_body.flops == 2 * ROWS * WIDTH * WIDTH / 4
    assert found.total.flops == 99 * found.open_body.flops
