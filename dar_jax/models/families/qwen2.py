"""Qwen2 and Qwen2.5: biases on query, key and value, which config.json does not mention."""

from dar_jax.models.families.family import BIAS_TENSORS, LLAMA_TENSORS, SILU, Family, head_size
from dar_jax.models.families.qwen3 import window, window_keys

FAMILY = Family(
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    tensors=LLAMA_TENSORS + BIAS_TENSORS,
    switches=lambda hf: {"qkv_bias": True, "head_size": head_size(hf), **window(hf)},
    keys=lambda config: {"head_dim": config.head_size, **window_keys(config)},
    refuse=SILU,
)
