"""Phi-3, Phi-3.5 and Phi-4: Llama with query, key and value in one tensor, gate and up in another."""

from dar_jax.models.families.family import (
    FUSED_TENSORS,
    NORM_BEFORE_TENSORS,
    OUTER_TENSORS,
    SILU,
    Family,
    head_size,
    local_layers,
)

FAMILY = Family(
    model_type="phi3",
    architecture="Phi3ForCausalLM",
    tensors=OUTER_TENSORS + NORM_BEFORE_TENSORS + FUSED_TENSORS,
    switches=lambda hf: {"head_size": head_size(hf), **local_layers(hf, lambda layer: True)},
    keys=lambda config: {"head_dim": config.head_size, "sliding_window": config.window, "attention_bias": False},
    refuse={**SILU, "lm_head_bias": (False, None)},
    defaults={"num_key_value_heads": None, "rope_theta": 10_000.0, "rms_norm_eps": 1e-5},
)
