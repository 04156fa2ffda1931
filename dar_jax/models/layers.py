"""Parameters with named axes, and the small parts of a layer."""

import jax
import jax.numpy as jnp
from flax import nnx

from dar_jax.models.config import DecoderConfig

Axes = tuple[str, ...]


def random(config: DecoderConfig, axes: Axes, rngs: nnx.Rngs) -> nnx.Param[jax.Array]:
    """Make a float32 parameter of normal values, as the family initialises its matrices."""
    shape = tuple(config.sizes[axis] for axis in axes)
    return nnx.Param(config.init_std * jax.random.normal(rngs.params(), shape), axes=axes)


def zeros(config: DecoderConfig, axes: Axes) -> nnx.Param[jax.Array]:
    """Make a float32 parameter of zeros."""
    return nnx.Param(jnp.zeros([config.sizes[axis] for axis in axes]), axes=axes)


def ones(config: DecoderConfig, axes: Axes) -> nnx.Param[jax.Array]:
    """Make a float32 parameter of ones."""
    return nnx.Param(jnp.ones([config.sizes[axis] for axis in axes]), axes=axes)


class Norm(nnx.Module):
    """Divide by the root mean square over the last axis and scale, in float32."""

    def __init__(self, config: DecoderConfig, axis: str) -> None:
        self.scale = ones(config, (axis,))
        self.eps = config.norm_eps

    def __call__(self, value: jax.Array) -> jax.Array:
        """Normalise; the dtype stays."""
        wide = value.astype(jnp.float32)
        mean_square = jnp.mean(wide * wide, axis=-1, keepdims=True)
        normal = wide * jax.lax.rsqrt(mean_square + self.eps)
        return (normal * self.scale[...].astype(jnp.float32)).astype(value.dtype)


class Mlp(nnx.Module):
    """The gated feed-forward part of a layer (SwiGLU; Shazeer 2020)."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs) -> None:
        self.gate = random(config, ("width", "mlp"), rngs)
        self.up = random(config, ("width", "mlp"), rngs)
        self.down = random(config, ("mlp", "width"), rngs)

    def __call__(self, hidden_BTD: jax.Array) -> jax.Array:
        """Transform every position by itself."""
        gate_BTF = jnp.einsum("BTD,DF->BTF", hidden_BTD, self.gate[...])
        up_BTF = jnp.einsum("BTD,DF->BTF", hidden_BTD, self.up[...])
        return jnp.einsum("BTF,FD->BTD", jax.nn.silu(gate_BTF) * up_BTF, self.down[...])
