"""What a family is, and what the families that descend from Llama share.

A family is a table of (our path, HF name, how the tensor lies) and the few keys of config.json in which it
differs. Facts on names and keys: huggingface/transformers, `models/<family>/configuration_*.py`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dar_jax.models.decoder_config import DecoderConfig

Path = tuple[str, ...]
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """HF stores `[outputs, inputs]`, flat on both sides; ours begins with `inputs` input axes."""

    inputs: int = 1

    def hf_axes(self, count: int) -> tuple[tuple[int, ...], ...]:
        """Say for every axis in the file which of our `count` axes it is made of."""
        return tuple(range(self.inputs, count)), tuple(range(self.inputs))

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

    def hf_axes(self, count: int) -> tuple[tuple[int, ...], ...]:
        """Say for every axis in the file which of our `count` axes it is made of."""
        return tuple((axis,) for axis in range(count)) if self.axes == count else (tuple(range(count)),)

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
    """One line of a name table. A path under `layers` has `{}` for the layer in its HF name.

    `beside` lists all our paths that the HF tensor holds, one after the other along its first (output) axis, this
    one among them; where it is empty the tensor is this parameter alone.
    """

    path: Path
    name: str
    lies: Kernel | Plain
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Family:
    """How one architecture spells itself in HF files.

    `defaults` are what HF takes absent keys of config.json to mean where families differ. `refuse` maps a key to the
    values that mean the decoder built here; absent is fine, any other value is an error. `switches` reads, `keys`
    writes what only this family has. `local_base` is the key of the rotary base of local layers, in a family where
    these have positions of their own.
    """

    model_type: str
    architecture: str
    rows: tuple[Row, ...]
    switches: Callable[[Mapping[str, Any]], dict[str, Any]]
    keys: Callable[[DecoderConfig], dict[str, Any]]
    refuse: Mapping[str, tuple[Any, ...]]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    local_base: str | None = None


def row(path: str, name: str, lies: Kernel | Plain) -> Row:
    """Make one line of a table; the path is written with slashes."""
    return Row(tuple(path.split("/")), name, lies)


def fused(name: str, *rows: Row) -> tuple[Row, ...]:
    """Make the lines of one HF tensor that holds what others keep apart."""
    beside = tuple(each.path for each in rows)
    return tuple(Row(each.path, name, each.lies, beside) for each in rows)


def head_size(hf: Mapping[str, Any]) -> int:
    """Read the size of a head: stated, or what is left of the width for each."""
    return hf.get("head_dim") or hf["hidden_size"] // hf["num_attention_heads"]


def local_layers(hf: Mapping[str, Any], rule: Callable[[int], bool]) -> dict[str, Any]:
    """Read which layers are local, and their window; by the family's `rule` where config.json lists no layers."""
    listed, count = hf.get("layer_types"), hf["num_hidden_layers"]
    local = [kind == LOCAL for kind in listed] if listed else [rule(layer) for layer in range(count)]
    if hf.get("sliding_window") is None or not any(local):
        return {}
    return {"window": hf["sliding_window"], "local_layers": () if all(local) else tuple(local)}


def layer_types(config: DecoderConfig) -> dict[str, Any]:
    """Write what `local_layers` reads."""
    kinds = [LOCAL if local else GLOBAL for local in config.local]
    return {"layer_types": kinds, "sliding_window": config.window}


GLOBAL, LOCAL = "full_attention", "sliding_attention"
_LAYER, _ATTENTION, _MLP = "model.layers.{}.", "model.layers.{}.self_attn.", "model.layers.{}.mlp."

# The last line is skipped where the head is tied: a line counts if the decoder has its path.
OUTER_ROWS = (
    row("embed", "model.embed_tokens.weight", Plain(axes=2)),
    row("norm/scale", "model.norm.weight", Plain()),
    row("head", "lm_head.weight", Kernel()),
)
MATRIX_ROWS = (
    row("layers/attention/query/kernel", _ATTENTION + "q_proj.weight", Kernel()),
    row("layers/attention/key/kernel", _ATTENTION + "k_proj.weight", Kernel()),
    row("layers/attention/value/kernel", _ATTENTION + "v_proj.weight", Kernel()),
    row("layers/attention/output/kernel", _ATTENTION + "o_proj.weight", Kernel(inputs=2)),
    row("layers/mlp/gate/kernel", _MLP + "gate_proj.weight", Kernel()),
    row("layers/mlp/up/kernel", _MLP + "up_proj.weight", Kernel()),
    row("layers/mlp/down/kernel", _MLP + "down_proj.weight", Kernel()),
)
FUSED_ROWS = (
    *fused(_ATTENTION + "qkv_proj.weight", *MATRIX_ROWS[:3]),
    MATRIX_ROWS[3],
    *fused(_MLP + "gate_up_proj.weight", *MATRIX_ROWS[4:6]),
    MATRIX_ROWS[6],
)
BIAS_ROWS = (
    row("layers/attention/query/bias", _ATTENTION + "q_proj.bias", Plain()),
    row("layers/attention/key/bias", _ATTENTION + "k_proj.bias", Plain()),
    row("layers/attention/value/bias", _ATTENTION + "v_proj.bias", Plain()),
)
QK_NORM_ROWS = (
    row("layers/attention/query_norm/scale", _ATTENTION + "q_norm.weight", Plain()),
    row("layers/attention/key_norm/scale", _ATTENTION + "k_norm.weight", Plain()),
)
# In families that normalise on one side only, "post_attention" is the norm before the feed-forward part.
NORM_BEFORE_ROWS = (
    row("layers/attention_norm/scale", _LAYER + "input_layernorm.weight", Plain()),
    row("layers/mlp_norm/scale", _LAYER + "post_attention_layernorm.weight", Plain()),
)
NORM_AFTER_ROWS = (
    row("layers/attention_post_norm/scale", _LAYER + "post_attention_layernorm.weight", Plain()),
    row("layers/mlp_post_norm/scale", _LAYER + "post_feedforward_layernorm.weight", Plain()),
)
NORM_BOTH_ROWS = (
    row("layers/attention_norm/scale", _LAYER + "input_layernorm.weight", Plain()),
    row("layers/mlp_norm/scale", _LAYER + "pre_feedforward_layernorm.weight", Plain()),
    *NORM_AFTER_ROWS,
)
LLAMA_ROWS = OUTER_ROWS + NORM_BEFORE_ROWS + MATRIX_ROWS

REFUSE: Mapping[str, tuple[Any, ...]] = {
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "quantization_config": (None,),
    "use_bidirectional_attention": (False, None),
}
SILU: Mapping[str, tuple[Any, ...]] = {**REFUSE, "hidden_act": ("silu",)}
