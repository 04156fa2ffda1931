"""A policy large enough for a TPU's compiler to leave something in HBM, small enough to compile in seconds."""

import json
from pathlib import Path
from typing import Any

from dar_jax.config import RunConfig
from dar_jax.config_file import parse_config

MODEL = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": 32_000,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "eos_token_id": 2,
    "hidden_act": "silu",
}


def small_run(folder: Path, *overrides: str, **settings: Any) -> RunConfig:
    """Write config.json into a folder and give a run of it, planned but never run: there is no data and no judge."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(MODEL))
    plain = {
        "policy": {"path": str(folder), "weights": "random"},
        "data": {"path": "none.jsonl"},
        "judge": {"name": "openai", "model": "gpt-4o-mini"},
        "prompts_per_step": 32,
        "sampling": {"max_prompt_length": 256, "max_completion_length": 256},
        "learning": {"micro_batch_size": 16},
        "mesh": {"tensor": 2},
        **settings,
    }
    return parse_config(json.dumps(plain), overrides, where="run.yaml")
