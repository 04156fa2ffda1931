"""Gemma 3 text models: Gemma 2 with norms on query and key heads in place of soft caps, five local layers a global one,
and another rotary base for local layers.

transformers 5 keeps `attn_logit_softcapping` in Gemma 3's config and never applies it; neither does this family.
"""

from dar_jax.models.families import gemma2
from dar_jax.models.families.family import QK_NORM_TENSORS, Family

FAMILY = Family(
    model_type="gemma3_text",
    architecture="Gemma3ForCausalLM",
    tensors=gemma2.TENSORS + QK_NORM_TENSORS,
    switches=lambda hf: {
        **gemma2.switches(hf, period=hf.get("sliding_window_pattern", 6)),
        "qk_norm": "head",
        "score_cap": None,
    },
    keys=gemma2.keys,
    refuse=gemma2.REFUSED,
    defaults={
        **gemma2.DEFAULTS,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "sliding_window": 4096,
    },
    local_base="rope_local_base_freq",
)
