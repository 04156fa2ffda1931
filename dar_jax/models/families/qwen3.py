"""Qwen3: a norm on every query and key head, no biases, an explicit head size."""

from collections.abc import Mapping
from typing import Any

from dar_jax.models.decoder_config import DecoderConfig
from dar_jax.models.families.family import LLAMA_TENSORS, QK_NORM_TENSORS, SILU, Family, layer_types, local_layers


def window(hf: Mapping[str, Any]) -> dict[str, Any]:
    """Read Qwen's window, which applies if `use_sliding_window` is true, from layer `max_window_layers` on."""
    if not hf.get("use_sliding_window"):
        return {}
    return local_layers(hf, lambda layer: layer >= hf.get("max_window_layers", 28))


def window_keys(config: DecoderConfig) -> dict[str, Any]:
    """Return the keys that `window` reads."""
    return {"use_sliding_window": config.window is not None, **layer_types(config)}


FAMILY = Family(
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    tensors=LLAMA_TENSORS + QK_NORM_TENSORS,
    switches=lambda hf: {"qk_norm": "head", "head_size": hf["head_dim"], **window(hf)},
    keys=lambda config: {"head_dim": config.head_size, "attention_bias": False, **window_keys(config)},
    refuse=SILU,
)
