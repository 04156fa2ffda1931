"""A small tree with every kind of leaf; `AXES` are its logical axes, `hf` its weights as Hugging Face stores them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from pydantic import ValidationError

from dar_jax import models
from dar_jax.algorithms import DAR
from dar_jax.learner import Learner, Learning
from dar_jax.learning.optimizers import Adafactor, AdamW, learning_rate
from dar_jax.models import families
from dar_jax.parallel import MeshShape, shardings
from tests.nano import NANO

AXES = {
    "embed": ("vocab", "vocab_width"),
    "layers": {
        "query": ("layers", "width", "heads", "head_size"),
        "output": ("layers", "heads", "head_size", "width"),
        "bias": ("layers", "kv_heads", "head_size"),
        "scale": ("layers", "width"),
        "head_scale": ("layers", "head_size"),
        "up": ("layers", "width", "mlp"),
    },
    "norm": ("width",),
}
SIZES = {"vocab": 11, "vocab_width": 6, "width": 6, "layers": 3, "heads": 4, "kv_heads": 2, "head_size": 2, "mlp": 5}


def tree(seed, scale=1.0):
    """Draw leaves of widely different size: norms taken over a stack would mix the layers'."""
    random = np.random.default_rng(seed)

    def draw(axes):
        shape = tuple(SIZES[axis] for axis in axes)
        layer = 10.0 ** (np.arange(shape[0]) - 1).reshape(-1, *[1] * (len(shape) - 1)) if axes[0] == "layers" else 1.0
        return jnp.asarray(scale * layer * random.normal(size=shape), jnp.float32)

    return jax.tree.map(draw, AXES, is_leaf=lambda node: isinstance(node, tuple))


def layer(leaves, index):
    return jax.tree.map(lambda leaf: leaf[index : index + 1], leaves)


def hf(leaves):
    """See the tree as the two-axis matrices and the vectors of an unstacked checkpoint."""
    weights = {"embed": leaves["embed"], "norm": leaves["norm"]}
    for index in range(SIZES["layers"]):
        one = {name: np.asarray(leaf[index]) for name, leaf in leaves["layers"].items()}
        weights |= {
            f"{index}.query": one["query"].reshape(6, 8).T,
            f"{index}.output": one["output"].reshape(8, 6).T,
            f"{index}.bias": one["bias"].reshape(4),
            f"{index}.scale": one["scale"],
            f"{index}.head_scale": one["head_scale"],
            f"{index}.up": one["up"].T,
        }
    return {name: np.array(weight) for name, weight in weights.items()}


def run(settings, params, gradients, axes=AXES, fused=()):
    optimizer = settings.build(axes, fused)
    step = jax.jit(lambda params, state, gradient: optimizer.apply(params, gradient, state, jnp.ones(()))[:2])
    state = jax.jit(optimizer.init)(params)
    for gradient in gradients:
        params, state = step(params, state, gradient)
    return params


def steps(optimizer, params, gradients):
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def assert_close(one, other, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other)


def test_optimizer_norms_taken_over_a_stacked_leaf():
    """Every layer moves as if it were alone."""
    settings, params = Adafactor(learning_rate=0.1, warmup_updates=0), tree(0)
    gradients = [tree(seed) for seed in (1, 2, 3)]
    stacked = run(settings, params, gradients)
    for index in range(SIZES["layers"]):
        alone = run(
            settings,
            {**params, "layers": layer(params["layers"], index)},
            [{**gradient, "layers": layer(gradient["layers"], index)} for gradient in gradients],
        )
        assert_close(alone["layers"], layer(stacked["layers"], index), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({}, {}),
        ({"clipping_threshold": 0.3, "decay_exponent": 0.6}, {"clip_threshold": 0.3, "decay_rate": -0.6}),
    ],
)
def test_adafactor_is_the_hugging_face_trainers(options, theirs):
    torch = pytest.importorskip("torch")
    optimization = pytest.importorskip("transformers.optimization")
    params, gradients = tree(0), [tree(seed, scale=10.0**-seed) for seed in range(1, 6)]
    weights = {name: torch.nn.Parameter(torch.tensor(weight)) for name, weight in hf(params).items()}
    optimizer = optimization.Adafactor(
        weights.values(), lr=0.05, scale_parameter=False, relative_step=False, warmup_init=False, **theirs
    )
    for gradient in gradients:
        for name, value in hf(gradient).items():
            weights[name].grad = torch.tensor(value)
        optimizer.step()
    ours = hf(run(Adafactor(learning_rate=0.05, warmup_updates=0, **options), params, gradients))
    assert_close(ours, {name: weight.detach().numpy() for name, weight in weights.items()}, rtol=2e-5, atol=2e-6)


def test_what_hugging_face_stores_as_one_matrix_has_one_set_of_factors_and_one_norm():
    """Phi-3's query, key and value, rows of unlike size: apart they move by up to their own size otherwise."""
    random, sizes = np.random.default_rng(0), {"query": (4, 1.0), "key": (2, 30.0), "value": (2, 0.01)}
    axes = dict.fromkeys(sizes, ("layers", "width", "heads", "head_size"))
    trees = [
        {
            name: jnp.asarray(scale * random.normal(size=(3, 6, heads, 2)), jnp.float32)
            for name, (heads, scale) in sizes.items()
        }
        for _ in range(5)
    ]
    params, *gradients = ({"layers": tree} for tree in trees)
    together = [
        {"layers": {"qkv": jnp.concatenate([leaf.reshape(3, 6, -1) for leaf in tree.values()], axis=-1)}}
        for tree in trees
    ]
    settings = Adafactor(learning_rate=0.05, warmup_updates=0)
    whole = run(settings, together[0], together[1:], {"layers": {"qkv": ("layers", "width", "mlp")}})["layers"]["qkv"]
    fused = [[f"layers/{name}" for name in sizes], ["layers/gate", "layers/up"]]
    ours = run(settings, params, gradients, {"layers": axes}, fused)["layers"]
    found = np.concatenate([ours[name].reshape(3, 6, -1) for name in sizes], axis=-1)
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-7)
    apart = run(settings, params, gradients, {"layers": axes})["layers"]
    assert np.abs(apart["value"] - ours["value"]).max() > 0.01


def test_the_fused_matrices_of_a_family_are_those_of_its_files():
    phi3, qwen2 = (
        models.DecoderConfig(**{**vars(NANO), "family": family, "qkv_bias": False}) for family in ("phi3", "qwen2")
    )
    attention, mlp = families.fused(phi3)
    assert attention == tuple(f"layers/attention/{name}/kernel" for name in ("query", "key", "value"))
    assert mlp == ("layers/mlp/gate/kernel", "layers/mlp/up/kernel")
    assert families.fused(qwen2) == ()
    state = jax.eval_shape(
        Learner(Learning(), phi3, DAR(), MeshShape(devices=1).build()).optimizer.init, models.abstract(phi3)
    )
    factors = {leaf.shape for leaf in jax.tree.leaves(state)}
    assert {(2, (4 + 2 + 2) * 8), (2, 2 * 64)} <= factors


def test_adafactor_is_the_papers_update():
    """Shazeer and Stern 2018, algorithms 4 and 5, in float64 and without parameter scaling or momentum."""
    params, gradients = tree(0), [tree(seed) for seed in range(1, 6)]
    weights = {name: weight.astype(np.float64) for name, weight in hf(params).items()}
    moments = dict.fromkeys(weights, (0.0, 0.0))
    for step, gradient in enumerate(gradients, 1):
        decay = 1 - step**-0.8
        for name, value in hf(gradient).items():
            square = value.astype(np.float64) ** 2 + 1e-30
            row, column = (square.sum(-1, keepdims=True), square.sum(0)) if square.ndim == 2 else (square, 1.0)
            row, column = (
                decay * old + (1 - decay) * new for old, new in zip(moments[name], (row, column), strict=True)
            )
            moments[name] = row, column
            estimate = row * column / row.sum() if square.ndim == 2 else row
            update = value / np.sqrt(estimate)
            weights[name] -= 0.05 * update / max(1.0, np.sqrt((update**2).mean()))
    ours = hf(run(Adafactor(learning_rate=0.05, warmup_updates=0), params, gradients))
    assert_close(ours, weights, rtol=2e-5, atol=2e-6)


def test_the_update_does_not_depend_on_how_the_weights_lie_on_devices():
    """The norms and factors of a weight split over devices are those of the whole weight."""
    sizes = {
        "vocab": 12,
        "vocab_width": 6,
        "width": 6,
        "layers": 3,
        "heads": 4,
        "kv_heads": 2,
        "head_size": 2,
        "mlp": 8,
    }
    random, mesh = np.random.default_rng(0), MeshShape(data=2, tensor=2).build()
    shapes = jax.tree.map(
        lambda axes: tuple(sizes[axis] for axis in axes), AXES, is_leaf=lambda n: isinstance(n, tuple)
    )
    params, *gradients = (
        jax.tree.map(
            lambda shape: jnp.asarray(random.normal(size=shape), jnp.float32),
            shapes,
            is_leaf=lambda node: isinstance(node, tuple),
        )
        for _ in range(4)
    )
    layout = shardings(params, AXES, mesh)
    assert not layout["layers"]["up"].is_fully_replicated
    settings = Adafactor(learning_rate=0.1, warmup_updates=0)
    split = run(settings, *jax.device_put((params, gradients), (layout, [layout] * 3)))
    assert_close(split, run(settings, params, gradients), rtol=1e-5, atol=1e-6)


def test_adafactor_of_a_zero_gradient_stays_where_it_is():
    params = tree(0)
    moved = run(Adafactor(learning_rate=0.1), params, [jax.tree.map(jnp.zeros_like, params)] * 2)
    assert_close(moved, params, rtol=0)


@pytest.mark.parametrize("settings", [Adafactor(learning_rate=2.0, warmup_updates=4), AdamW(warmup_updates=4)])
def test_warm_up_is_linear_and_reaches_the_learning_rate(settings):
    rates = [float(learning_rate(settings)(update)) for update in range(6)]
    np.testing.assert_allclose(rates, settings.learning_rate * np.array([0.25, 0.5, 0.75, 1, 1, 1]), rtol=1e-6)
    assert rates[3] == pytest.approx(settings.learning_rate, rel=1e-7)


def test_no_warm_up_starts_at_the_learning_rate():
    assert float(learning_rate(AdamW(learning_rate=3.0, warmup_updates=0))(0)) == 3.0


def test_the_update_follows_the_warm_up():
    """Equal gradients make Adafactor's update of a vector the sign, so a step's length is the learning rate."""
    axes, params = (
        {"norm": ("width",), "layers": {"scale": AXES["layers"]["scale"]}},
        {
            "norm": jnp.zeros(6),
            "layers": {"scale": jnp.zeros((3, 6))},
        },
    )
    gradients = [jax.tree.map(jnp.ones_like, params)] * 3
    moved = run(Adafactor(learning_rate=0.1, warmup_updates=2), params, gradients, axes)
    np.testing.assert_allclose(moved["norm"], -(0.05 + 0.1 + 0.1), rtol=1e-5)


def test_bf16_weights_do_not_move_at_lr_1e_6():
    settings, gradients = Adafactor(warmup_updates=0), [tree(seed) for seed in (1, 2)]
    params = jax.tree.map(lambda leaf: jnp.sign(leaf) + 0.5, tree(0))
    masters = run(settings, params, gradients)
    moved = jax.tree.map(lambda leaf, start: (leaf != start).mean(), masters, params)
    assert min(jax.tree.leaves(moved)) > 0.5
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    assert_close(run(settings, narrow, gradients), narrow, rtol=0)


def test_adamw_is_optax_adamw():
    params, gradients = tree(0), [tree(seed) for seed in range(1, 6)]
    decays = jax.tree.map(lambda _: False, params) | {"embed": True}
    decays["layers"] |= {"query": True, "output": True, "up": True}
    settings = AdamW(learning_rate=0.05, warmup_updates=0, beta1=0.8, beta2=0.95, epsilon=1e-6, weight_decay=0.1)
    theirs = optax.adamw(0.05, 0.8, 0.95, 1e-6, weight_decay=0.1, mask=decays)
    expected = steps(theirs, params, gradients)
    assert_close(run(settings, params, gradients), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", [Adafactor, AdamW])
def test_weight_decay_spares_norms_and_biases(kind):
    params = tree(0)
    nothing = jax.tree.map(jnp.zeros_like, params)
    moved = run(kind(learning_rate=0.1, warmup_updates=0, weight_decay=0.5), params, [nothing])
    for name in ("bias", "scale", "head_scale"):
        np.testing.assert_array_equal(moved["layers"][name], params["layers"][name])
    np.testing.assert_array_equal(moved["norm"], params["norm"])
    for name in ("query", "output", "up"):
        np.testing.assert_allclose(moved["layers"][name], 0.95 * params["layers"][name], rtol=1e-6)
    np.testing.assert_allclose(moved["embed"], 0.95 * params["embed"], rtol=1e-6)


@pytest.mark.parametrize("settings", [Adafactor(), AdamW()])
def test_gradients_of_a_smaller_dtype_are_scaled_in_float32(settings):
    """A sum of bfloat16 gradients is divided by its count without being rounded again; the norm is that of both."""
    params, optimizer = tree(0), settings.build(AXES)
    sums = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tree(1))
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) / 3, sums)
    moved, _, norm, _ = optimizer.apply(params, sums, optimizer.init(params), jnp.asarray(1 / 3))
    assert_close(moved, run(settings, params, [wide]), rtol=1e-6)
    assert float(norm) == pytest.approx(np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(wide))), rel=1e-5)


def test_max_grad_norm_clips_the_norm_over_all_weights():
    params, gradient = tree(0), tree(1)
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
    scaled = jax.tree.map(lambda leaf: leaf / norm, gradient)
    settings = {"learning_rate": 0.1, "warmup_updates": 0, "epsilon": 1.0}
    clipped = run(AdamW(**settings, max_grad_norm=1.0), params, [gradient])
    assert_close(clipped, run(AdamW(**settings), params, [scaled]), rtol=1e-6)


def _gradient(value):
    gradient = tree(1)
    gradient["layers"]["up"] = gradient["layers"]["up"].at[1, 0, 0].set(value)
    return gradient


def _nearly_too_large():
    params = tree(0)
    params["layers"]["up"] = params["layers"]["up"].at[1, 0, 0].set(3e38)
    return params


@pytest.mark.parametrize("kind", [Adafactor, AdamW])
@pytest.mark.parametrize(
    ("params", "gradient", "wanted"),
    [
        pytest.param(tree(0), _gradient(jnp.nan), True, id="a gradient is NaN"),
        pytest.param(tree(0), _gradient(1e30), True, id="the norm overflows"),
        pytest.param(_nearly_too_large(), tree(1), True, id="a parameter overflows"),
        pytest.param(tree(0), tree(1), False, id="unwanted"),
    ],
)
def test_an_update_that_is_not_finite_changes_no_bit(kind, params, gradient, wanted):
    optimizer = kind(learning_rate=1.0, warmup_updates=0, weight_decay=1e3).build(AXES)
    before = params, optimizer.init(params)
    apply = jax.jit(lambda wanted, *given: optimizer.apply(*given, jnp.ones(()), wanted))
    *after, _, applied = apply(wanted, params, gradient, before[1])
    assert not applied
    jax.tree.map(np.testing.assert_array_equal, tuple(after), before)


@pytest.mark.parametrize(
    "wrong", [{"learning_rate": 0.0}, {"warmup_updates": -1}, {"beta1": 1.0}, {"momentum": 0.9}, {"weight_decay": -0.1}]
)
def test_settings_refuse_what_no_optimizer_can_be(wrong):
    with pytest.raises(ValidationError):
        AdamW(**wrong)
