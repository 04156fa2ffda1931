"""Costs off compiled text, against XLA's own count of an unrolled program and against arithmetic."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dar_jax.planning.compile import count_work
from dar_jax.planning.hlo_costs import program_costs
from tests.planning.looped_programs import TURNS, layer, looped, unrolled

LAYERS, ROWS, WIDTH = 5, 16, 32
PRODUCT = 2 * ROWS * WIDTH * WIDTH


def compiled(function, *shapes, **options):
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) if isinstance(shape, tuple) else shape for shape in shapes]
    return jax.jit(function, **options).lower(*shapes).compile()


def costs(function, *shapes, **options):
    return program_costs(compiled(function, *shapes, **options).as_text())


SHAPES = (ROWS, WIDTH), (LAYERS, WIDTH, WIDTH)


def test_loops_within_loops_count_as_often_as_they_run():
    assert costs(looped, *SHAPES).total.flops == costs(unrolled, *SHAPES).total.flops == LAYERS * TURNS * PRODUCT


def test_without_loops_the_count_is_xlas_own():
    program = compiled(unrolled, *SHAPES)
    ours, theirs = program_costs(program.as_text()).total, program.cost_analysis()
    assert ours.flops == pytest.approx(theirs["flops"], rel=1e-3)
    assert ours.hbm_bytes == theirs["bytes accessed"]


def test_xlas_own_count_misses_the_loops():
    program = compiled(looped, *SHAPES)
    assert program.cost_analysis()["flops"] < program_costs(program.as_text()).total.flops / (LAYERS * TURNS - 1)


@pytest.mark.parametrize("remat", [False, True])
def test_the_way_back_counts_too(remat):
    """Two products for one forward; with remat one more, but XLA need not recompute what nothing reads."""

    def scanned(weights, hidden):
        step = jax.checkpoint(layer, prevent_cse=True) if remat else layer
        return jax.lax.scan(lambda hidden, weight: (step(hidden, weight), None), hidden, weights)[0].sum()

    found = costs(jax.grad(scanned, argnums=(0, 1)), *reversed(SHAPES)).total.flops
    assert found == (4 if remat else 3) * LAYERS * PRODUCT


def test_a_loop_that_counts_down_in_steps():
    def program(hidden, weight):
        state = jax.lax.while_loop(lambda s: s[0] > 2, lambda s: (s[0] - 3, layer(s[1], weight)), (11, hidden))
        return state[1]

    assert costs(program, *SHAPES[:1], (WIDTH, WIDTH)).total.flops == 3 * PRODUCT


def test_a_loop_that_may_end_early_is_bounded_and_told_apart():
    def program(hidden, weight):
        def going(state):
            return (state[0] < 10) & (state[1].sum() < 100)

        return jax.lax.while_loop(going, lambda s: (s[0] + 1, layer(s[1], weight)), (2, hidden))

    found = costs(program, *SHAPES[:1], (WIDTH, WIDTH))
    assert found.open_trips == 8
    assert found.open_body.flops == PRODUCT
    assert found.total.flops == 8 * PRODUCT
    assert not found.unknown_loops


def test_a_loop_without_a_limit_is_counted_once_and_named():
    def program(hidden, weight):
        return jax.lax.while_loop(lambda hidden: hidden.sum() < 100, lambda hidden: layer(hidden, weight), hidden)

    found = costs(program, *SHAPES[:1], (WIDTH, WIDTH))
    assert found.total.flops == PRODUCT
    assert len(found.unknown_loops) == 1


def test_of_branches_the_dearest_counts():
    def program(hidden, weight, which):
        return jax.lax.cond(which, lambda: hidden, lambda: layer(layer(hidden, weight), weight))

    which = jax.ShapeDtypeStruct((), jnp.bool_)
    assert costs(program, *SHAPES[:1], (WIDTH, WIDTH), which).total.flops == 2 * PRODUCT


def test_an_update_in_place_and_a_slice_cost_what_they_touch():
    """A loop over a large array that reads and writes one row of it each time."""
    rows, width = 1000, 256

    def program(table):
        def turn(index, table):
            row = jax.lax.dynamic_slice_in_dim(table, index, 1)
            return jax.lax.dynamic_update_slice_in_dim(table, jnp.sin(row) + 1, index, 0)

        return jax.lax.fori_loop(0, 10, turn, table)

    once = costs(program, (rows, width), donate_argnums=0).total.hbm_bytes
    assert once < 10 * 10 * width * 4 < rows * width * 4


@pytest.fixture(scope="module")
def mesh():
    return Mesh(jax.devices(), ("chips",))


@pytest.mark.parametrize(
    ("left", "right", "out", "kind", "sent"),
    [
        ((None, "chips"), ("chips", None), (None, None), "all-reduce", 2 * 7 / 8 * 64 * 32 * 4),
        (("chips", None), (None, None), (None, None), "all-gather", 7 / 8 * 64 * 32 * 4),
    ],
)
def test_collectives_send_what_a_ring_sends(mesh, left, right, out, kind, sent):
    operands = placed((64, 128), mesh, left), placed((128, 32), mesh, right)
    found = costs(jnp.matmul, *operands, out_shardings=NamedSharding(mesh, PartitionSpec(*out)))
    assert found.total.collective_bytes == {kind: pytest.approx(sent)}


def test_another_layout_of_the_same_is_an_all_to_all(mesh):
    out = NamedSharding(mesh, PartitionSpec(None, "chips"))
    found = costs(jnp.sin, placed((64, 32), mesh, ("chips", None)), out_shardings=out)
    assert found.total.collective_bytes == {"all-to-all": pytest.approx(7 / 8 * 64 * 32 * 4 / 8)}


def placed(shape, mesh, spec):
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec)))


def test_a_program_that_jaxlib_cannot_read_back_has_bytes_but_no_work():
    class Unread:
        def as_text(self):
            raise jax.errors.JaxRuntimeError("INTERNAL: RET_CHECK failure: async-update instruction")

    assert count_work(Unread()) is None
    assert count_work(compiled(unrolled, *SHAPES)).total.flops == LAYERS * TURNS * PRODUCT
