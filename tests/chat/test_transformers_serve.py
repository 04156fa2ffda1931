"""A real server with a real, random model as the judge: it must be called useless, not learnt from."""

import pytest

from dar_jax.cli.main import main
from dar_jax.judging import OpenAIJudge
from tests.judging.sample_questions import completions
from tests.nano import write_policy, write_prompts
from tests.serving import serve

pytestmark = pytest.mark.slow
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Yield (base_url, model) of `transformers serve` with a random Qwen2."""
    pytest.importorskip("torch")
    pytest.importorskip("fastapi")
    folder = tmp_path_factory.mktemp("serve")
    model = _random_model(folder / "tiny")
    with serve(model, folder) as base_url:
        yield base_url, str(model)


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


@pytest.mark.parametrize("mode", ["logprobs", "single", "samples"])
def test_a_random_judge_is_reported_as_useless(server, tmp_path, capsys, mode):
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


@pytest.mark.parametrize("mode", ["decision", "auto"])
def test_typed_decisions_of_a_real_server(server, tmp_path, mode):
    """A random model has rewards here, since the probabilities are those of the labels alone."""
    base_url, model = server
    settings = OpenAIJudge(model=model, base_url=base_url, mode=mode, permutations=2 if mode == "decision" else 1)
    with settings.open(tmp_path / "ledger.sqlite") as judge:
        assert "mode decision" in judge.describe()
        (first, second) = judge.submit(completions(["One completion.", "Another one, which is longer."])).result()
        assert judge.totals.usage.input_tokens > 100
    assert first.status == second.status == "ok"
    assert first.reward != second.reward
    assert 1.0 < first.reward < 10.0
    with settings.open(tmp_path / "again.sqlite") as judge:
        again = judge.submit(completions(["One completion."])).result()[0]
    assert again.reward == pytest.approx(first.reward)


def test_a_real_server_compares(server, tmp_path):
    base_url, model = server
    settings = OpenAIJudge(model=model, base_url=base_url, mode="decision", labels="preference")
    with settings.open(tmp_path / "ledger.sqlite") as judge:
        found = judge.submit(completions(["One completion.", "Another one, which is longer.", "A third."])).result()
        assert judge.totals.annotations == 6
    assert [verdict.status for verdict in found] == ["ok"] * 3
    assert sum(verdict.reward for verdict in found) == pytest.approx(1.5)
