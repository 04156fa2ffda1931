"""Score tokens with a decoder, as the tests of this room want it."""

import jax
import jax.numpy as jnp
import numpy as np

from dar_jax import models
from dar_jax.batches import Inputs
from dar_jax.models.rope import Rope

TINY = models.DecoderConfig(
    family="qwen3",
    vocab_size=32,
    width=16,
    layers=3,
    heads=4,
    kv_heads=2,
    head_size=6,
    mlp_width=24,
    max_positions=64,
    rope=Rope(base=1e4),
    norm_eps=1e-6,
    init_std=0.3,
    qk_norm="head",
)


def draw(config: models.DecoderConfig, seed: int = 0) -> models.Params:
    """Draw parameters in which no norm is one and no bias zero; without a compilation."""
    random = np.random.default_rng(seed)

    def leaf(path, shape):
        noise = 0.3 * random.standard_normal(shape.shape, np.float32)
        return jnp.array(noise + (path[-1].key == "scale"))

    return jax.tree_util.tree_map_with_path(leaf, models.abstract(config))


def logits(
    config: models.DecoderConfig, params: models.Params, token_BT, mask_BT=None, gradients=None, remat=True
) -> jax.Array:
    """Run the whole sequence at once."""
    token_BT = jnp.asarray(token_BT)
    mask_BT = jnp.ones(token_BT.shape, bool) if mask_BT is None else jnp.asarray(mask_BT)
    return _run(config, params, token_BT, mask_BT, gradients, remat)


def _forward(config, params, token_BT, mask_BT, gradients, remat):
    model = models.bind(config, params)
    hidden_BTD, _ = model(Inputs(token_BT=token_BT, mask_BS=mask_BT), grad_sums=gradients, remat=remat)
    return model.logits(hidden_BTD)


_run = jax.jit(_forward, static_argnums=(0, 5))


def logprob(logits_BTV: jax.Array, token_BT) -> np.ndarray:
    """Pick the log-probability of every token but the first, nats."""
    logprob_BTV = np.asarray(jax.nn.log_softmax(logits_BTV[:, :-1]))
    return np.take_along_axis(logprob_BTV, np.asarray(token_BT)[:, 1:, None], axis=-1)[..., 0]
