"""The definition of a model family, and tables shared by the families that descend from Llama.

A family is a table of (our path, HF name, layout) and the keys of config.json in which it differs. Source of names and
keys: huggingface/transformers, `models/<family>/configuration_*.py`.
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
    """HF stores `[outputs, inputs]`, both flat; ours starts with `inputs` input axes."""

    inputs: int = 1

    def hf_axes(self, count: int) -> tuple[tuple[int, ...], ...]:
        """Return, for every axis in the file, the indices of our `count` axes that it consists of."""
        return tuple(range(self.inputs, count)), tuple(range(self.inputs))

    def hf_shape(self, shape: Shape) -> Shape:
        """Return the shape in the file of a parameter of shape `shape`."""
        return math.prod(shape[self.inputs :]), math.prod(shape[: self.inputs])

    def to_ours(self, tensor: np.ndarray, shape: Shape) -> np.ndarray:
        """Return a tensor of the file in our `shape`."""
        return tensor.T.reshape(shape)

    def to_hf(self, array: np.ndarray) -> np.ndarray:
        """Return one of our arrays in the layout of the file."""
        outputs, inputs = self.hf_shape(array.shape)
        return array.reshape(inputs, outputs).T


@dataclass(frozen=True, kw_only=True)
class Plain:
    """HF stores the same numbers in the same order, in `axes` axes."""

    axes: int = 1

    def hf_axes(self, count: int) -> tuple[tuple[int, ...], ...]:
        """Return, for every axis in the file, the indices of our `count` axes that it consists of."""
        return tuple((axis,) for axis in range(count)) if self.axes == count else (tuple(range(count)),)

    def hf_shape(self, shape: Shape) -> Shape:
        """Return the shape in the file of a parameter of shape `shape`."""
        return shape if self.axes == len(shape) else (math.prod(shape),)

    def to_ours(self, tensor: np.ndarray, shape: Shape) -> np.ndarray:
        """Return a tensor of the file in our `shape`."""
        return tensor.reshape(shape)

    def to_hf(self, array: np.ndarray) -> np.ndarray:
        """Return one of our arrays in the layout of the file."""
        return array.reshape(self.hf_shape(array.shape))


@dataclass(frozen=True)
class TensorMapping:
    """The HF name and layout of one of our parameters. Under `layers` the HF name has `{}` for the layer.

    `fused_with` lists all our paths that are concatenated in the HF tensor along its first (output) axis, this one
    included; it is empty if the tensor is this parameter alone.
    """

    path: Path
    name: str
    layout: Kernel | Plain
    fused_with: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Family:
    """How one architecture is written in HF files.

    `defaults` are HF's values of absent keys where families differ. `refuse` maps a key to its supported values;
    absent is fine, any other value is an error. `switches` reads and `keys` writes what only this family has.
    `local_base` is the key of the rotary base of local layers, in a family whose local layers have their own.
    """

    model_type: str
    architecture: str
    tensors: tuple[TensorMapping, ...]
    switches: Callable[[Mapping[str, Any]], dict[str, Any]]
    keys: Callable[[DecoderConfig], dict[str, Any]]
    refuse: Mapping[str, tuple[Any, ...]]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    local_base: str | None = None


def tensor(path: str, name: str, layout: Kernel | Plain) -> TensorMapping:
    """Return one line of a table; the path is written with slashes."""
    return TensorMapping(tuple(path.split("/")), name, layout)


def fused(name: str, *rows: TensorMapping) -> tuple[TensorMapping, ...]:
    """Return the lines of one HF tensor that holds several parameters."""
    paths = tuple(each.path for each in rows)
    return tuple(TensorMapping(each.path, name, each.layout, paths) for each in rows)


def head_size(hf: Mapping[str, Any]) -> int:
    """Return the head size: `head_dim`, or the width over the number of heads."""
    return hf.get("head_dim") or hf["hidden_size"] // hf["num_attention_heads"]


def local_layers(hf: Mapping[str, Any], rule: Callable[[int], bool]) -> dict[str, Any]:
    """Read which layers are local, and their window; by the family's `rule` if config.json has no `layer_types`."""
    listed, count = hf.get("layer_types"), hf["num_hidden_layers"]
    local = [kind == LOCAL for kind in listed] if listed else [rule(layer) for layer in range(count)]
    if hf.get("sliding_window") is None or not any(local):
        return {}
    return {"window": hf["sliding_window"], "local_layers": () if all(local) else tuple(local)}


def layer_types(config: DecoderConfig) -> dict[str, Any]:
    """Return the keys that `local_layers` reads."""
    kinds = [LOCAL if local else GLOBAL for local in config.local]
    return {"layer_types": kinds, "sliding_window": config.window}


GLOBAL, LOCAL = "full_attention", "sliding_attention"
_LAYER, _ATTENTION, _MLP = "model.layers.{}.", "model.layers.{}.self_attn.", "model.layers.{}.mlp."

# A line applies if the decoder has its path: the last one is skipped if the head is tied.
OUTER_TENSORS = (
    tensor("embed", "model.embed_tokens.weight", Plain(axes=2)),
    tensor("norm/scale", "model.norm.weight", Plain()),
    tensor("head", "lm_head.weight", Kernel()),
)
MATRIX_TENSORS = (
    tensor("layers/attention/query/kernel", _ATTENTION + "q_proj.weight", Kernel()),
    tensor("layers/attention/key/kernel", _ATTENTION + "k_proj.weight", Kernel()),
    tensor("layers/attention/value/kernel", _ATTENTION + "v_proj.weight", Kernel()),
    tensor("layers/attention/output/kernel", _ATTENTION + "o_proj.weight", Kernel(inputs=2)),
    tensor("layers/mlp/gate/kernel", _MLP + "gate_proj.weight", Kernel()),
    tensor("layers/mlp/up/kernel", _MLP + "up_proj.weight", Kernel()),
    tensor("layers/mlp/down/kernel", _MLP + "down_proj.weight", Kernel()),
)
FUSED_TENSORS = (
    *fused(_ATTENTION + "qkv_proj.weight", *MATRIX_TENSORS[:3]),
    MATRIX_TENSORS[3],
    *fused(_MLP + "gate_up_proj.weight", *MATRIX_TENSORS[4:6]),
    MATRIX_TENSORS[6],
)
BIAS_TENSORS = (
    tensor("layers/attention/query/bias", _ATTENTION + "q_proj.bias", Plain()),
    tensor("layers/attention/key/bias", _ATTENTION + "k_proj.bias", Plain()),
    tensor("layers/attention/value/bias", _ATTENTION + "v_proj.bias", Plain()),
)
QK_NORM_TENSORS = (
    tensor("layers/attention/query_norm/scale", _ATTENTION + "q_norm.weight", Plain()),
    tensor("layers/attention/key_norm/scale", _ATTENTION + "k_norm.weight", Plain()),
)
# In families that normalise on one side only, "post_attention" is the norm before the feed-forward part.
NORM_BEFORE_TENSORS = (
    tensor("layers/attention_norm/scale", _LAYER + "input_layernorm.weight", Plain()),
    tensor("layers/mlp_norm/scale", _LAYER + "post_attention_layernorm.weight", Plain()),
)
NORM_AFTER_TENSORS = (
    tensor("layers/attention_post_norm/scale", _LAYER + "post_attention_layernorm.weight", Plain()),
    tensor("layers/mlp_post_norm/scale", _LAYER + "post_feedforward_layernorm.weight", Plain()),
)
NORM_BOTH_TENSORS = (
    tensor("layers/attention_norm/scale", _LAYER + "input_layernorm.weight", Plain()),
    tensor("layers/mlp_norm/scale", _LAYER + "pre_feedforward_layernorm.weight", Plain()),
    *NORM_AFTER_TENSORS,
)
LLAMA_TENSORS = OUTER_TENSORS + NORM_BEFORE_TENSORS + MATRIX_TENSORS

REFUSE: Mapping[str, tuple[Any, ...]] = {
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "quantization_config": (None,),
    "use_bidirectional_attention": (False, None),
}
SILU: Mapping[str, tuple[Any, ...]] = {**REFUSE, "hidden_act": ("silu",)}
