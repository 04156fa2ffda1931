"""Qwen3: a norm on every query and key head, no biases, a head size of its own."""

from dar_jax.models.families.family import LLAMA_REFUSE, LLAMA_ROWS, QK_NORM_ROWS, Family

FAMILY = Family(
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    rows=LLAMA_ROWS + QK_NORM_ROWS,
    switches=lambda hf: {"qk_norm": True, "head_size": hf["head_dim"]},
    keys=lambda config: {
        "use_sliding_window": False,
        "head_dim": config.head_size,
        "attention_bias": False,
    },
    refuse={**LLAMA_REFUSE, "attention_bias": (False, None)},
)
