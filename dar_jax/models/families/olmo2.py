"""OLMo 2: norms after each block instead of before, and one norm over all query (key) heads together."""

from dar_jax.models.families.family import (
    MATRIX_TENSORS,
    NORM_AFTER_TENSORS,
    OUTER_TENSORS,
    QK_NORM_TENSORS,
    SILU,
    Family,
    head_size,
)

TENSORS = OUTER_TENSORS + NORM_AFTER_TENSORS + MATRIX_TENSORS + QK_NORM_TENSORS
SWITCHES = {"norms": "after", "qk_norm": "all"}

FAMILY = Family(
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    tensors=TENSORS,
    switches=lambda hf: {"head_size": head_size(hf), **SWITCHES},
    keys=lambda config: {"head_dim": config.head_size, "attention_bias": False},
    refuse={**SILU, "clip_qkv": (None,)},
    defaults={"num_key_value_heads": None, "rope_theta": 10_000.0, "rms_norm_eps": 1e-5},
)
