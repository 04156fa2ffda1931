"""Parameters with named axes, and the small parts of a layer."""

import functools as ft
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from dar_jax.models.decoder_config import DecoderConfig
from dar_jax.models.lora import bound
from dar_jax.parallel import constrain

Axes = tuple[str, ...]
_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "silu": jax.nn.silu,
    "gelu_tanh": ft.partial(jax.nn.gelu, approximate=True),
}


def random(config: DecoderConfig, axes: Axes, rngs: nnx.Rngs) -> nnx.Param[jax.Array]:
    """Return a float32 parameter of normal values with the family's standard deviation."""
    shape = tuple(config.sizes[axis] for axis in axes)
    return nnx.Param(config.init_std * jax.random.normal(rngs.params(), shape), axes=axes)


def uniform(config: DecoderConfig, axes: Axes, rngs: nnx.Rngs) -> nnx.Param[jax.Array]:
    """Return a float32 parameter with the uniform initialization of an adapter's first matrix."""
    shape = tuple(config.sizes[axis] for axis in axes)
    limit = bound(shape)
    return nnx.Param(jax.random.uniform(rngs.params(), shape, minval=-limit, maxval=limit), axes=axes)


def zeros(config: DecoderConfig, axes: Axes) -> nnx.Param[jax.Array]:
    """Return a float32 parameter of zeros."""
    return nnx.Param(jnp.zeros([config.sizes[axis] for axis in axes]), axes=axes)


def ones(config: DecoderConfig, axes: Axes) -> nnx.Param[jax.Array]:
    """Return a float32 parameter of ones."""
    return nnx.Param(jnp.ones([config.sizes[axis] for axis in axes]), axes=axes)


class Projection(nnx.Module):
    """A linear map from the last axes of a value to others, with an optional bias and adapter."""

    def __init__(
        self, config: DecoderConfig, name: str, inputs: Axes, outputs: Axes, *, bias: bool, rngs: nnx.Rngs
    ) -> None:
        self.kernel = random(config, inputs + outputs, rngs)
        if bias:
            self.bias = zeros(config, outputs)
        if config.lora and config.lora.adapts(name):
            self.lora_a = uniform(config, (*inputs, "rank"), rngs)
            self.lora_b = zeros(config, ("rank", *outputs))
            self.lora_scale = config.lora.scale
        self.contracted = len(inputs)

    def __call__(self, value: jax.Array) -> jax.Array:
        """Return the projection; leading axes stay."""
        projected = jnp.tensordot(value, self.kernel[...], self.contracted)
        if hasattr(self, "lora_a"):
            low = jnp.tensordot(value, self.lora_a[...], self.contracted)
            projected += self.lora_scale * jnp.tensordot(low, self.lora_b[...], 1)
        return projected + self.bias[...] if hasattr(self, "bias") else projected


class Norm(nnx.Module):
    """RMSNorm over the last axes, computed in float32 (Zhang & Sennrich 2019)."""

    def __init__(self, config: DecoderConfig, *axes: str) -> None:
        self.scale = zeros(config, axes) if config.centred_norms else ones(config, axes)
        self.eps, self.centre = config.norm_eps, 1.0 if config.centred_norms else 0.0

    def __call__(self, value: jax.Array) -> jax.Array:
        """Return the normalized value in its own dtype."""
        wide, scale = value.astype(jnp.float32), self.scale[...].astype(jnp.float32)
        mean_square = jnp.mean(wide * wide, axis=range(-scale.ndim, 0), keepdims=True)
        return (wide * jax.lax.rsqrt(mean_square + self.eps) * (self.centre + scale)).astype(value.dtype)


class Mlp(nnx.Module):
    """The gated feed-forward block of a layer (Shazeer 2020)."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs) -> None:
        project = ft.partial(Projection, config, bias=False, rngs=rngs)
        self.gate = project("gate", ("width",), ("mlp",))
        self.up = project("up", ("width",), ("mlp",))
        self.down = project("down", ("mlp",), ("width",))
        self.activate = _ACTIVATIONS[config.activation]

    def __call__(self, hidden_BTD: jax.Array) -> jax.Array:
        """Return the output of the block, position by position."""
        hidden_BTD = constrain(hidden_BTD, "batch_at_mlp", None, None)
        # Positions as one matrix: otherwise the TPU compiler chooses other weight layouts when a row has one token.
        hidden_XD = hidden_BTD.reshape(-1, hidden_BTD.shape[-1])
        return self.down(self.activate(self.gate(hidden_XD)) * self.up(hidden_XD)).reshape(hidden_BTD.shape)
