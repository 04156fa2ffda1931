"""A run's policy in Hugging Face form: what transformers makes of it, what the card says, what is refused."""

import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from dar_jax.checkpoints import RunState, huggingface, saved_numbers
from dar_jax.cli.main import main
from dar_jax.errors import SettingError
from dar_jax.policies.export import export
from dar_jax.policies.policy import open_policy
from dar_jax.records import Message, Prompt
from dar_jax.runlog import RunFolder
from dar_jax.sampling import Sampler, Sampling, completions
from tests.kept_runs import keep_run, same
from tests.nano import write_policy, write_prompts
from tests.serving import answer, serve
from tests.small_tokenizers import IM_TEMPLATE, hf

GREEDY = Sampling(temperature=0, max_prompt_length=16, max_completion_length=12)
PROMPTS = tuple(Prompt(id=i, text=text) for i, text in enumerate(["the cat sat on", "a dog ran on the mat", "cat"]))
FILES = ["README.md", "config.json", "generation_config.json", "model.safetensors"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps of DAR, trained; its policy, data and tokenizer are gone."""
    folder = tmp_path_factory.mktemp("trained")
    policy, prompts = write_policy(folder / "start"), write_prompts(folder / "prompts.jsonl")
    hf(template=IM_TEMPLATE).save_pretrained(policy)
    # AutoTokenizer, which serves, would take any tokenizer of a Qwen2 for Qwen2's own.
    config = json.loads((policy / "config.json").read_text())
    llama = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    (policy / "config.json").write_text(json.dumps(config | llama))
    (folder / "run.yaml").write_text(f"""
    policy: {{path: {policy}, weights: random}}
    data: {{path: {prompts}}}
    judge: {{name: scripted, scorer: overlap}}
    steps: 2
    prompts_per_step: 4
    sampling: {{max_prompt_length: 16, max_completion_length: 8, temperature: 0.9, top_p: 0.95}}
    learning:
      compute_dtype: float32
      updates_per_batch: 2
      remat: false
      optimizer: {{learning_rate: 3e-2, warmup_updates: 1}}
    checkpoints: {{every_steps: 1}}
    mesh: {{devices: 1}}
    display: {{mode: quiet}}
    """)
    assert main(["train", str(folder / "run.yaml"), "--run-dir", str(folder / "run")]) == 0
    shutil.rmtree(policy)
    prompts.unlink()
    return RunFolder(folder / "run")


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    output = tmp_path_factory.mktemp("exported") / "my-policy"
    assert main(["export", str(run.path), "--output", str(output)]) == 0
    return output


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return keep_run(tmp_path_factory.mktemp("kept"))


def greedy(policy, prompts):
    """Complete prompts by our own sampler."""
    tokenizer = policy.tokenizer
    sampler = Sampler(GREEDY, policy.decoder, policy.mesh, eos_ids=tokenizer.eos_ids, pad_id=tokenizer.pad_id)
    tokens = tokenizer.encode_prompts(prompts)
    with jax.set_mesh(policy.mesh):
        return tokens, sampler.sample(policy.params, tokens, [p.id for p in prompts], 1, jax.random.key(0))


def test_what_is_exported_is_what_was_trained(run, exported):
    trained, start = open_policy(run.path), open_policy(run.path, 0)
    config, params = huggingface.load(exported)
    assert config == trained.decoder
    same(params, trained.params)
    assert not np.array_equal(params["embed"], start.params["embed"])
    assert {path.name for path in exported.iterdir()} >= {*FILES, "tokenizer.json", "tokenizer_config.json"}


def test_transformers_generates_the_same_tokens_greedily(run, exported):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, report = AutoModelForCausalLM.from_pretrained(exported, output_loading_info=True)
    assert not any(report.values())
    tokens, rollouts = greedy(open_policy(run.path), PROMPTS)
    theirs = AutoTokenizer.from_pretrained(exported)
    mask_BT = np.asarray(rollouts.mask_completion_BT)
    token_BT = np.asarray(rollouts.inputs_B.token_BT)[:, -mask_BT.shape[1] :]
    for prompt, ids, token_T, mask_T in zip(PROMPTS, tokens, token_BT, mask_BT, strict=True):
        assert theirs(prompt.text)["input_ids"] == ids
        given = torch.tensor([ids])
        with torch.no_grad():
            said = model.generate(
                given,
                attention_mask=torch.ones_like(given),
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                max_new_tokens=GREEDY.max_completion_length,
            )
        assert said[0, len(ids) :].tolist() == token_T[mask_T].tolist()


@pytest.mark.slow
def test_transformers_serves_it(run, exported, tmp_path):
    """Over HTTP, through its chat template, the greedy answer is our sampler's."""
    pytest.importorskip("torch")
    pytest.importorskip("fastapi")
    question = {"role": "user", "content": "the cat sat on the mat"}
    with serve(exported, tmp_path) as base_url:
        said = answer(base_url, exported, question["content"])
    policy = open_policy(run.path)
    prompt = Prompt(id=0, text="", messages=(Message(**question),))
    words = completions(greedy(policy, [prompt])[1], [prompt], policy.tokenizer)
    assert said.split() == words[0].text.split()


def test_bfloat16_is_the_nearest(run, exported, tmp_path):
    export(run.path, tmp_path / "half", dtype="bfloat16")
    whole, half = (load_file(folder / "model.safetensors") for folder in (exported, tmp_path / "half"))
    for name, array in whole.items():
        np.testing.assert_array_equal(half[name], array.astype(jnp.bfloat16))
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"


def test_it_draws_as_the_run_did_and_stops_where_it_stopped(exported):
    from transformers import GenerationConfig

    stated = GenerationConfig.from_pretrained(exported)
    assert (stated.do_sample, stated.temperature, stated.top_p, stated.top_k) == (True, 0.9, 0.95, 0)
    assert stated.eos_token_id == [2, 5]
    assert stated.pad_token_id == 3


def test_penalties_of_the_start_are_not_the_runs(tmp_path):
    """They would change what it says, greedily too; ends and lengths stay."""
    start = write_policy(tmp_path / "start")
    stated = {"repetition_penalty": 1.3, "temperature": 0.2, "max_new_tokens": 99, "eos_token_id": [2, 4]}
    (start / "generation_config.json").write_text(json.dumps(stated))
    run = keep_run(tmp_path, (4,), sampling={"temperature": 0, "max_prompt_length": 16, "max_completion_length": 8})
    export(run.path, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert found == {"eos_token_id": [2, 4], "pad_token_id": 3, "max_new_tokens": 99, "do_sample": False}


def test_the_card_says_what_was_done(run, exported):
    card = (exported / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "transformers"
    assert "base_model" not in front  # the start was a folder
    config = open_policy(run.path).config
    for part in (
        "# my-policy",
        'AutoTokenizer.from_pretrained("my-policy")',
        "`transformers serve my-policy`",
        f"random weights in the shape of `{config.policy.path}`: its policy after step 2 of 2, in float32",
        f"path {config.data.path}",
        "**scripted**: scorer overlap, rubric general",
        "**dar**: ",
        "alpha_ratio 0.1, total_regularization 0.05",
        "## Logged at step 2",
        f"| `rewards/mean` | {run.read('metrics')[-1]['rewards/mean']:.4g} |",
        "arXiv [2504.14177]",
        "arXiv\n[2602.11523]",
    ):
        assert part in card
    settings = yaml.safe_load(re.search(r"```yaml\n(.*?)```", card, re.DOTALL)[1])
    assert settings["learning"]["updates_per_batch"] == 2
    assert settings["steps"] == 2


def test_a_tokenizer_that_auto_tokenizer_takes_for_another_is_said(kept, tmp_path, capsys):
    """These words on a Qwen2: what the card tells to load splits them as the policy was trained on them."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    export(kept.path, tmp_path / "out")
    assert "its tokenizer is read by PreTrainedTokenizerFast; AutoTokenizer puts another" in capsys.readouterr().out
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'PreTrainedTokenizerFast.from_pretrained("out")' in card
    ids = open_policy(kept.path).tokenizer.encode_text("the cat sat")
    assert PreTrainedTokenizerFast.from_pretrained(tmp_path / "out")("the cat sat")["input_ids"] == ids
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("the cat sat")["input_ids"] != ids


def test_the_card_names_a_base_model_of_the_hub(kept, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(kept.path, folder)
    config = json.loads((folder / "policy" / "config.json").read_text())
    (folder / "policy" / "config.json").write_text(json.dumps({"_name_or_path": "Qwen/Qwen3-0.6B", **config}))
    export(folder, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["base_model"] == "Qwen/Qwen3-0.6B"


def test_the_card_tells_no_key_and_not_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_JUDGE_KEY", "sk-very-secret")
    (tmp_path / "secret.txt").write_text("sk-also-secret")
    for where in ({"api_key_env": "MY_JUDGE_KEY"}, {"api_key_file": str(tmp_path / "secret.txt")}):
        judge = {"name": "openai", "model": "gpt-4.1-mini", **where}
        folder = tmp_path / next(iter(where))
        folder.mkdir()
        export(keep_run(folder, (4,), judge=judge).path, folder / "out")
        written = "".join(path.read_text() for path in (folder / "out").iterdir() if path.suffix != ".safetensors")
        assert "**openai**: model gpt-4.1-mini" in written
        for word in ("secret", "MY_JUDGE_KEY"):
            assert word not in written


def test_a_policy_within_a_step_says_so(tmp_path, capsys):
    export(keep_run(tmp_path, (4, 6)).path, tmp_path / "out")
    assert "step 1, update 2 of" in capsys.readouterr().out
    assert "after step 1 of 3 and 2 updates of the next" in (tmp_path / "out" / "README.md").read_text()


def test_step_is_that_of_the_log(kept, tmp_path, capsys):
    assert main(["export", str(kept.path), "--step", "1", "--output", str(tmp_path / "one")]) == 0
    same(huggingface.load(tmp_path / "one")[1], open_policy(kept.path, 1).params)
    capsys.readouterr()
    assert main(["export", str(kept.path), "--step", "5", "--output", str(tmp_path / "five")]) == 2
    assert capsys.readouterr().err.endswith("has kept the state after these steps: 0, 1, 2\n")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_refuse_to_overwrite(kept, exported):
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    for taken in (exported, kept.path, exported / "config.json"):
        with pytest.raises(SettingError, match="exists and is not an empty folder; name a new one"):
            export(kept.path, taken)
    assert {path.name: path.read_bytes() for path in exported.iterdir()} == before


def test_a_failure_leaves_no_half_of_a_folder(kept, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(kept.path, folder)
    (folder / "metrics.jsonl").write_text("not JSON\n")
    with pytest.raises(SettingError, match=r"metrics.jsonl, line 1: damaged"):
        export(folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_export_inside_the_training_job_crashes_so_export_is_its_own_command(tmp_path):
    """Trap marin#6752: it runs beside a run that goes on, whose next checkpoint is whole."""
    run = keep_run(tmp_path, (4,))
    trees = {"params": open_policy(run.path).params, "optimizer": {"moment": np.zeros(3, np.float32)}}
    with RunState(run.checkpoints, keep=100) as saved:
        saved.save(8, trees, {"step": 2}, None)
        export(run.path, tmp_path / "out", step=1)
        saved.save(12, trees, {"step": 3}, None)
    assert saved_numbers(run.checkpoints) == [4, 8, 12]
    same(open_policy(run.path).params, huggingface.load(tmp_path / "out")[1])


def test_tied_head_missing_in_export(kept, tmp_path):
    """Trap EasyDeL#168: nothing is missing, config.json ties it and transformers finds all it wants."""
    export(kept.path, tmp_path / "out")
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is True
    pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values())
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
