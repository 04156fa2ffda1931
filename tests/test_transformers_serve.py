"""A real server with a real, random model as the judge: it must be called useless, not learnt from."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from dar_jax.cli import main
from tests.nano import write_policy, write_prompts

pytestmark = pytest.mark.slow
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Yield (base_url, model) of `transformers serve` holding a random Qwen2."""
    pytest.importorskip("torch")
    pytest.importorskip("fastapi")
    folder = tmp_path_factory.mktemp("serve")
    model = _random_model(folder / "tiny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", "--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    (folder / "hub").mkdir()
    environment = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder / "hub"), "PATH": "/usr/bin:/bin"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, str(model)], env=environment, stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1", str(model)
    finally:
        process.terminate()
        process.wait(30)


def _random_model(folder):
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    core.train_from_iterator(["hello"], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=2, eos_token_id=tokenizer.eos_token_id, **sizes)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def _wait(url, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        time.sleep(0.2)
    raise AssertionError("the server did not come up")


@pytest.mark.parametrize("mode", ["logprobs", "single", "samples"])
def test_a_random_judge_is_called_useless(server, tmp_path, capsys, mode):
    base_url, model = server
    policy, prompts = write_policy(tmp_path / "policy"), write_prompts(tmp_path / "prompts.jsonl")
    (tmp_path / "run.yaml").write_text(f"""
    policy: {{path: {policy}, weights: random}}
    data: {{path: {prompts}}}
    judge: {{name: openai, model: {model}, base_url: "{base_url}", mode: {mode}, samples: 2}}
    steps: 1
    prompts_per_step: 4
    sampling: {{max_prompt_length: 16, max_completion_length: 8}}
    learning: {{compute_dtype: float32}}
    mesh: {{devices: 1}}
    """)
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "run.yaml"), "--run-dir", str(run)]) == 3
    said = capsys.readouterr().err
    assert "the judge is useless" in said
    assert "nothing was learnt" in said
    assert not (run / "metrics.jsonl").exists()
