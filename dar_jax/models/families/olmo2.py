"""OLMo 2: norms after each part instead of before, and one over all query (key) heads together."""

from dar_jax.models.families.family import (
    MATRIX_ROWS,
    NORM_AFTER_ROWS,
    OUTER_ROWS,
    QK_NORM_ROWS,
    SILU,
    Family,
    head_size,
)

ROWS = OUTER_ROWS + NORM_AFTER_ROWS + MATRIX_ROWS + QK_NORM_ROWS
SWITCHES = {"norms": "after", "qk_norm": "all"}

FAMILY = Family(
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    rows=ROWS,
    switches=lambda hf: {"head_size": head_size(hf), **SWITCHES},
    keys=lambda config: {"head_dim": config.head_size, "attention_bias": False},
    refuse={**SILU, "clip_qkv": (None,)},
    defaults={"num_key_value_heads": None, "rope_theta": 10_000.0, "rms_norm_eps": 1e-5},
)
