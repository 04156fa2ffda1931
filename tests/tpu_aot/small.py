"""A policy that a TPU's compiler compiles in seconds, split over devices in every way a large one is."""

import json
from pathlib import Path
from typing import Any

from dar_jax.config.config_file import parse_config
from dar_jax.config.run_config import RunConfig

MODEL = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "eos_token_id": 2,
    "hidden_act": "silu",
}


def small_run(folder: Path, **settings: Any) -> RunConfig:
    """Give a run of the policy, planned but never run: there is no tokenizer and there are no prompts."""
    return parse_config(write_run(folder, **settings).read_text(), where="run.yaml")


def write_run(folder: Path, **settings: Any) -> Path:
    """Write config.json and the settings of a run into a folder."""
    (folder / "config.json").write_text(json.dumps(MODEL))
    plain = {
        "policy": {"path": str(folder)} | ({"lora": {}} if settings.pop("lora", False) else {}),
        "data": {"path": "none.jsonl"},
        "judge": {"name": "openai", "model": "gpt-4o-mini"},
        "prompts_per_step": 32,
        "sampling": {"max_prompt_length": 64, "max_completion_length": 64},
        "learning": {"micro_batch_size": 16},
        "mesh": {"tensor": 2},
        **settings,
    }
    (folder / "run.yaml").write_text(json.dumps(plain))
    return folder / "run.yaml"
