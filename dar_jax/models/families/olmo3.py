"""OLMo 3: OLMo 2 with three local layers a global one; only global layers scale their rotary positions."""

from dar_jax.models.families import olmo2
from dar_jax.models.families.family import SILU, Family, head_size, layer_types, local_layers

FAMILY = Family(
    model_type="olmo3",
    architecture="Olmo3ForCausalLM",
    tensors=olmo2.TENSORS,
    switches=lambda hf: {
        "head_size": head_size(hf),
        **olmo2.SWITCHES,
        **local_layers(hf, lambda layer: (layer + 1) % 4 > 0),
    },
    keys=lambda config: {"head_dim": config.head_size, "attention_bias": False, **layer_types(config)},
    refuse=SILU,
    defaults={"num_key_value_heads": None, "rope_theta": 500_000.0, "rms_norm_eps": 1e-5, "sliding_window": 4096},
    local_base="rope_theta",
)
