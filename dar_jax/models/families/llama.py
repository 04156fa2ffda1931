"""Llama 2 and 3: the plain decoder; from 3.1 on with scaled rotary positions."""

from dar_jax.models.families.family import LLAMA_TENSORS, SILU, Family, head_size

FAMILY = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    tensors=LLAMA_TENSORS,
    switches=lambda hf: {"head_size": head_size(hf)},
    keys=lambda config: {"head_dim": config.head_size, "attention_bias": False, "mlp_bias": False},
    refuse=SILU,
    defaults={
        "num_key_value_heads": None,
        "rope_theta": 10_000.0,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 2048,
    },
)
