"""What a family is, and what the families that descend from Llama share.

A family is a table of (our path, HF name, how the tensor lies) and the few keys of config.json in which it
differs. Facts on names and keys: huggingface/transformers, `models/<family>/configuration_*.py`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dar_jax.models.config import DecoderConfig

Path = tuple[str, ...]
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """HF stores `[outputs, inputs]`, flat on both sides; ours begins with `inputs` input axes."""

    inputs: int = 1

    def hf_shape(self, shape: Shape) -> Shape:
        """Give the shape in the file of what has `shape` here."""
        return math.prod(shape[self.inputs :]), math.prod(shape[: self.inputs])

    def to_ours(self, tensor: np.ndarray, shape: Shape) -> np.ndarray:
        """Lay a tensor of the file out in `shape`."""
        return tensor.T.reshape(shape)

    def to_hf(self, array: np.ndarray) -> np.ndarray:
        """Lay one of our arrays out as the file wants it."""
        outputs, inputs = self.hf_shape(array.shape)
        return array.reshape(inputs, outputs).T


@dataclass(frozen=True, kw_only=True)
class Plain:
    """HF stores the same numbers in the same order; `axes` of them."""

    axes: int = 1

    def hf_shape(self, shape: Shape) -> Shape:
        """Give the shape in the file of what has `shape` here."""
        return shape if self.axes == len(shape) else (math.prod(shape),)

    def to_ours(self, tensor: np.ndarray, shape: Shape) -> np.ndarray:
        """Lay a tensor of the file out in `shape`."""
        return tensor.reshape(shape)

    def to_hf(self, array: np.ndarray) -> np.ndarray:
        """Lay one of our arrays out as the file wants it."""
        return array.reshape(self.hf_shape(array.shape))


@dataclass(frozen=True)
class Row:
    """One line of a name table. A path under `layers` has `{}` for the layer in its HF name."""

    path: Path
    name: str
    lies: Kernel | Plain


@dataclass(frozen=True, kw_only=True)
class Family:
    """How one architecture spells itself in HF files.

    `refuse` maps a key of config.json to the values that mean the decoder built here; absent is fine,
    any other value is an error. `switches` reads, `keys` writes what only this family has.
    """

    model_type: str
    architecture: str
    rows: tuple[Row, ...]
    switches: Callable[[Mapping[str, Any]], dict[str, Any]]
    keys: Callable[[DecoderConfig], dict[str, Any]]
    refuse: Mapping[str, tuple[Any, ...]]


def row(path: str, name: str, lies: Kernel | Plain) -> Row:
    """Make one line of a table; the path is written with slashes."""
    return Row(tuple(path.split("/")), name, lies)


_LAYER = "model.layers.{}."

# The last line is skipped where the head is tied: a line counts if the decoder has its path.
LLAMA_ROWS = (
    row("embed", "model.embed_tokens.weight", Plain(axes=2)),
    row("layers/attention_norm/scale", _LAYER + "input_layernorm.weight", Plain()),
    row("layers/attention/query", _LAYER + "self_attn.q_proj.weight", Kernel()),
    row("layers/attention/key", _LAYER + "self_attn.k_proj.weight", Kernel()),
    row("layers/attention/value", _LAYER + "self_attn.v_proj.weight", Kernel()),
    row("layers/attention/output", _LAYER + "self_attn.o_proj.weight", Kernel(inputs=2)),
    row("layers/mlp_norm/scale", _LAYER + "post_attention_layernorm.weight", Plain()),
    row("layers/mlp/gate", _LAYER + "mlp.gate_proj.weight", Kernel()),
    row("layers/mlp/up", _LAYER + "mlp.up_proj.weight", Kernel()),
    row("layers/mlp/down", _LAYER + "mlp.down_proj.weight", Kernel()),
    row("norm/scale", "model.norm.weight", Plain()),
    row("head", "lm_head.weight", Kernel()),
)

BIAS_ROWS = (
    row("layers/attention/query_bias", _LAYER + "self_attn.q_proj.bias", Plain()),
    row("layers/attention/key_bias", _LAYER + "self_attn.k_proj.bias", Plain()),
    row("layers/attention/value_bias", _LAYER + "self_attn.v_proj.bias", Plain()),
)

QK_NORM_ROWS = (
    row("layers/attention/query_norm/scale", _LAYER + "self_attn.q_norm.weight", Plain()),
    row("layers/attention/key_norm/scale", _LAYER + "self_attn.k_norm.weight", Plain()),
)

LLAMA_REFUSE: Mapping[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "use_sliding_window": (False, None),
    "attention_dropout": (0, None),
    "quantization_config": (None,),
    "partial_rotary_factor": (1, None),
}
