"""Make the tiny random checkpoints of `tests/golden/models`, with what transformers computes from them.

python -m tests.golden.make_models [NAME ...]        (needs torch; made with torch 2.13 and transformers 5.23)
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.models.parity import sizes

FOLDER = Path(__file__).parent / "models"
CHECKPOINTS: dict[str, dict[str, Any]] = {
    "qwen2-tied": {"model_type": "qwen2", "num_key_value_heads": 2, "tie_word_embeddings": True, "rope_theta": 1e6},
    "qwen2-all-heads": {"model_type": "qwen2", "num_key_value_heads": 4, "rope_theta": 777.0},
    "qwen2-one-head": {"model_type": "qwen2", "num_key_value_heads": 1, "head_dim": 10, "rope_theta": 1e4},
    "qwen3-tied": {
        "model_type": "qwen3",
        "num_key_value_heads": 1,
        "head_dim": 10,
        "tie_word_embeddings": True,
        "rope_theta": 1e6,
    },
    "qwen3-all-heads": {"model_type": "qwen3", "num_key_value_heads": 4, "head_dim": 4, "rope_theta": 1e4},
    "qwen3-sharded-bfloat16": {"model_type": "qwen3", "num_key_value_heads": 2, "head_dim": 6, "rope_theta": 777.0},
}
CHECKPOINTS |= {
    f"{family}-{name}": sizes(family, name)
    for family, name in (
        ("llama", "all-heads-llama3"),
        ("mistral", "tied-window"),
        ("gemma2", "tied-window"),
        ("gemma3_text", "all-heads-linear"),
        ("olmo2", "untied"),
        ("olmo3", "all-heads-yarn"),
        ("phi3", "all-heads-longrope"),
    )
}
SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "attn_implementation": "eager",
}
ROWS, LENGTH = 2, 11


def random_model(sizes: dict[str, Any], seed: int) -> Any:
    """Make a float32 model in which no norm is one and no bias zero."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**sizes), dtype=torch.float32).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn_like(weight)
            weight.copy_(1 + 0.3 * noise if "norm" in name else 0.25 * noise)
    return model


def make(name: str, seed: int) -> None:
    """Write one checkpoint and `expected.safetensors` beside it."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    folder, sharded = FOLDER / name, "sharded" in name
    shutil.rmtree(folder, ignore_errors=True)
    model = random_model({**SIZES, **CHECKPOINTS[name]}, seed)
    if sharded:
        model = model.to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="8KB" if sharded else "5GB")
    (folder / "generation_config.json").unlink()
    if name in ("qwen2-all-heads", "qwen3-all-heads"):
        _spell_as_version_4(folder / "config.json")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    token = torch.randint(3, SIZES["vocab_size"], (ROWS, LENGTH))
    with torch.no_grad():
        logits = model(token).logits
    logprob = logits[:, :-1].log_softmax(-1).gather(-1, token[:, 1:, None])[..., 0]
    save_file({"token": token, "logits": logits, "logprob": logprob}, folder / "expected.safetensors")


def _spell_as_version_4(path: Path) -> None:
    """Write the rotary base as transformers 4 did."""
    config = json.loads(path.read_text())
    config |= {"rope_theta": config.pop("rope_parameters")["rope_theta"], "rope_scaling": None}
    path.write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    for seed, name in enumerate(CHECKPOINTS):
        if name in (sys.argv[1:] or CHECKPOINTS):
            make(name, seed)
