"""A policy small enough for whole runs in tests: a folder with a config.json and a word-level tokenizer."""

import json
from pathlib import Path
from typing import Any

from dar_jax.models import DecoderConfig
from dar_jax.models.rope import Rope
from tests.small_tokenizers import SPECIAL, WORDS, hf

# For runs that are never resumed within a step: each save takes as long as a step.
AFTER_STEPS = "checkpoints.within_step=false"
# Columns of a log that differ from one run to another of the same numbers: by the clock, and by what a ledger held.
CLOCKS = ("seconds/", "throughput/", "judge/latency", "judge/connect", "judge/retries")
BILLS = ("judge/billed", "judge/from_ledger", "judge/cost", "judge/spent", "judge/requests", "judge/usd")

NANO = DecoderConfig(
    family="qwen2",
    vocab_size=64,
    width=32,
    layers=2,
    heads=4,
    kv_heads=2,
    head_size=8,
    mlp_width=64,
    max_positions=128,
    rope=Rope(base=10_000.0),
    norm_eps=1e-6,
    init_std=0.2,
    qkv_bias=True,
)


def write_policy(folder: Path) -> Path:
    """Write a config and a tokenizer whose words the policy can say; weights are drawn by the run."""
    folder.mkdir(parents=True, exist_ok=True)
    hf().save_pretrained(folder)
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": len(SPECIAL) + len(WORDS) + 3,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-6,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
        "eos_token_id": 2,
        "hidden_act": "silu",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_prompts(file: Path, count: int = 24) -> Path:
    """Write prompts with demonstrations as JSONL."""
    rows = [
        {"prompt": " ".join(WORDS[(i + j) % 8] for j in range(3 + i % 4)), "completion": WORDS[i % 8]}
        for i in range(count)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def lasting(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop from logged rows what the clock and the ledger put there: another run of the same numbers has the rest."""
    return [{key: value for key, value in row.items() if not key.startswith(CLOCKS + BILLS)} for row in rows]


def run_text(folder: Path) -> str:
    """Write policy and prompts; give the settings of a run of three steps on one device that saves all it can."""
    policy, prompts = write_policy(folder / "policy"), write_prompts(folder / "prompts.jsonl")
    return f"""
    policy: {{path: {policy}, weights: random}}
    data: {{path: {prompts}}}
    judge: {{name: scripted, scorer: overlap, canary_every: 2, canary_margin: -9}}
    steps: 3
    prompts_per_step: 8
    sampling: {{max_prompt_length: 16, max_completion_length: 8}}
    learning: {{compute_dtype: float32, optimizer: {{learning_rate: 1e-2, warmup_updates: 1}}}}
    checkpoints: {{every_steps: 1, within_step: true, keep: 100}}
    evaluation: {{data: {{path: {prompts}}}, prompts: 8}}
    mesh: {{devices: 1}}
    display: {{mode: quiet}}
    """
