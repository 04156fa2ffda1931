"""Qwen2 and Qwen2.5: biases on query, key and value, which config.json does not mention."""

from dar_jax.models.families.family import BIAS_ROWS, LLAMA_REFUSE, LLAMA_ROWS, Family

FAMILY = Family(
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    rows=LLAMA_ROWS + BIAS_ROWS,
    switches=lambda hf: {
        "qkv_bias": True,
        "head_size": hf.get("head_dim") or hf["hidden_size"] // hf["num_attention_heads"],
    },
    keys=lambda config: {"use_sliding_window": False, "head_dim": config.head_size},
    refuse=LLAMA_REFUSE,
)
