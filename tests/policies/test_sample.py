"""Sampling from the command line: a nano run, a model's folder, a conversation with it."""

import dataclasses
import io
import json
import re
import shutil

import jax
import pytest

from dar_jax import models
from dar_jax.checkpoints import huggingface
from dar_jax.cli.main import main
from dar_jax.errors import SettingError
from dar_jax.policies.conversation import Conversation
from dar_jax.policies.export import export
from dar_jax.policies.sample import SampleRequest, open_sampler, sample
from dar_jax.records import Completion, Message, Prompt
from tests.nano import NANO, write_policy, write_prompts
from tests.small_tokenizers import IM_TEMPLATE, NO_SYSTEM_TEMPLATE, SPECIAL, WORDS, hf

GREEDY = ("--temperature", "0", "--max-tokens", "8")
DECODER = dataclasses.replace(NANO, vocab_size=len(SPECIAL) + len(WORDS))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps on bare prompts, with sampling settings of its own."""
    folder = tmp_path_factory.mktemp("run")
    policy, prompts = write_policy(folder / "policy"), write_prompts(folder / "prompts.jsonl")
    (folder / "run.yaml").write_text(f"""
    policy: {{path: {policy}, weights: random}}
    data: {{path: {prompts}}}
    algorithm: {{name: sft}}
    steps: 2
    prompts_per_step: 8
    sampling: {{max_prompt_length: 16, max_completion_length: 8, temperature: 0.9}}
    learning:
      compute_dtype: float32
      updates_per_batch: 1
      remat: false
      optimizer: {{name: adamw, learning_rate: 0.1, warmup_updates: 1}}
    checkpoints: {{every_steps: 1}}
    mesh: {{devices: 1}}
    display: {{mode: quiet}}
    """)
    assert main(["train", str(folder / "run.yaml"), "--run-dir", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model as Hugging Face folders hold it, with a chat template and sampling settings."""
    folder = tmp_path_factory.mktemp("hf") / "model"
    params = jax.jit(models.init, static_argnums=0)(DECODER, jax.random.key(3))
    huggingface.save(folder, DECODER, params)
    hf(template=IM_TEMPLATE).save_pretrained(folder)
    stated = {"eos_token_id": [2, 5], "temperature": 0.7, "top_k": 0, "top_p": 0.95}
    (folder / "generation_config.json").write_text(json.dumps(stated))
    return folder


@pytest.fixture
def say(capsys):
    """Run `dar-jax sample`; give back what it printed."""

    def run_it(source, *options):
        assert main(["sample", str(source), *options]) == 0
        return capsys.readouterr().out

    return run_it


def _rows(printed):
    return [json.loads(line) for line in printed.splitlines()]


def test_a_run_completes_a_prompt_as_it_samples(run, say):
    rows = _rows(say(run, "--prompt", "the cat", "-n", "64", "--json"))
    assert [row["sample"] for row in rows] == list(range(64))
    assert all(row["prompt"] == "the cat" and 1 <= row["tokens"] <= 8 for row in rows)
    assert len({row["completion"] for row in rows}) > 1
    sampling = open_sampler(str(run), SampleRequest()).sampling
    assert (sampling.temperature, sampling.max_completion_length, sampling.max_prompt_length) == (0.9, 8, 120)


def test_the_same_seed_says_the_same_and_another_something_else(run, say):
    options = ("--prompt", "the cat", "-n", "64", "--json")
    first = say(run, *options, "--seed", "1")
    assert say(run, *options, "--seed", "1") == first
    assert say(run, *options, "--seed", "2") != first


def test_temperature_0_says_one_thing(run, say):
    rows = _rows(say(run, "--prompt", "the cat", "-n", "3", "--json", *GREEDY))
    assert len({row["completion"] for row in rows}) == 1


def test_several_completions_are_counted_under_their_prompts(run, say):
    options = ("--prompt", "the cat", "--prompt", "a dog", "-n", "2")
    expected = ""
    for row in _rows(say(run, *options, "--json")):
        length = f"{row['tokens']} token{'s' * (row['tokens'] > 1)}{', cut off' * (not row['ended'])}"
        title = f"> {row['prompt']}\n" if row["sample"] == 0 else ""
        expected += f"{title}[{row['sample'] + 1}] {length}\n{row['completion']}\n"
    assert say(run, *options) == expected


def test_a_prompt_from_standard_input_and_a_lone_completion_as_bare_text(run, say, monkeypatch):
    expected = _rows(say(run, "--prompt", "the cat", "--json"))[0]["completion"] + "\n"
    for options in ((), ("--prompt", "-")):
        monkeypatch.setattr("sys.stdin", io.StringIO("the cat\n"))
        assert say(run, *options) == expected


def test_the_policy_after_a_step_is_that_of_its_checkpoint(run, say, tmp_path):
    """`--step 1` speaks with the weights that an export of step 1 holds."""
    options = ("--prompt", "the cat sat", "-n", "4", "--json")
    first = say(run, *options, "--step", "1")
    assert say(run, *options) != first
    export(run, tmp_path / "out", step=1)
    again = say(tmp_path / "out", *options, "--temperature", "0.9", "--max-tokens", "8")
    assert again.splitlines()[-4:] == first.splitlines()


def test_a_model_speaks_as_its_files_say(model):
    speaker = open_sampler(str(model), SampleRequest())
    sampling = speaker.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.7, None, 0.95)
    assert sampling.max_prompt_length + sampling.max_completion_length == DECODER.max_positions
    asked = open_sampler(str(model), SampleRequest(temperature=0.0, top_k=3, top_p=0.5, max_tokens=7)).sampling
    assert (asked.temperature, asked.top_k, asked.top_p, asked.max_completion_length) == (0.0, 3, 0.5, 7)


def test_a_prompt_goes_through_the_template_unless_it_shall_be_bare(model):
    prompt = [Prompt(id=0, text="the cat")]
    talk, raw = (open_sampler(str(model), SampleRequest(raw=raw)).tokenizer for raw in (False, True))
    told = open_sampler(str(model), SampleRequest(system="a dog")).tokenizer
    assert talk.encode_prompts(prompt)[0][0] == told.encode_prompts(prompt)[0][0] == SPECIAL.index("<|im_start|>")
    assert len(told.encode_prompts(prompt)[0]) == len(talk.encode_prompts(prompt)[0]) + 5
    assert raw.encode_prompts(prompt) == [raw.encode_text("the cat")]


@pytest.mark.parametrize("conversations", [True, False])
def test_a_runs_prompts_stay_what_they_were(conversations, run, tmp_path):
    """A model that has a template, in a run on bare prompts or on conversations: `sample` prompts it as the run did."""
    copy = shutil.copytree(run, tmp_path / "run")
    hf(template=IM_TEMPLATE).save_pretrained(copy / "policy")
    cell = [{"role": "user", "content": "the cat"}] if conversations else "the cat"
    (tmp_path / "data.jsonl").write_text(json.dumps({"prompt": cell, "completion": "a"}) + "\n")
    text = (run / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace(str(run.parent / "prompts.jsonl"), str(tmp_path / "data.jsonl")))
    tokenizer = open_sampler(str(copy), SampleRequest()).tokenizer
    assert tokenizer.wrap_text == conversations
    assert not open_sampler(str(copy), SampleRequest(raw=True)).tokenizer.wrap_text
    (tmp_path / "data.jsonl").unlink()
    assert open_sampler(str(copy), SampleRequest()).tokenizer.wrap_text


# --- conversation --------------------------------------------------------------------------------


def _talk(monkeypatch, say, model, *lines, options=GREEDY):
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(line + "\n" for line in lines)))
    return say(model, "--chat", *options)


@pytest.fixture(scope="module")
def greedy(model):
    return open_sampler(str(model), SampleRequest(temperature=0.0, max_tokens=8), talk=True)


def _directly(speaker, *turns):
    messages = tuple(Message(role=role, content=text) for role, text in turns)
    return speaker.completions([Prompt(id=0, text="", messages=messages)])[0]


def _shown(*answers):
    """What the terminal shows of answers, one of which may be cut off."""
    note = "(8 tokens, cut off; --max-tokens allows more)\n"
    return "".join(f"{answer.text}\n" + note * (not answer.ended) for answer in answers)


def test_the_whole_history_reaches_the_model(model, greedy, say, monkeypatch):
    first = _directly(greedy, ("user", "the cat sat"))
    second = _directly(greedy, ("user", "the cat sat"), ("assistant", first.text), ("user", "a dog ran"))
    alone = _directly(greedy, ("user", "a dog ran"))
    assert second.text != alone.text
    assert second.ended
    assert not first.ended
    assert _talk(monkeypatch, say, model, "the cat sat", "", "a dog ran") == _shown(first, second)
    lines = ("the cat sat", "/reset", "a dog ran", "/quit", "the mat")
    assert _talk(monkeypatch, say, model, *lines) == _shown(first, alone)


def test_the_oldest_turns_make_room(greedy, monkeypatch):
    """Each question is given with the turns before it that still fit, whole exchanges at a time."""
    monkeypatch.setattr(greedy, "fits", 30)
    talk, dropped = Conversation(greedy), []
    for said in ("the cat sat on the mat", "a dog ran on the mat", "the dog sat on a cat"):
        before = talk.turns
        completion, left_out = talk.answer(said)
        dropped.append(left_out)
        spoken = (Message(role="user", content=said), Message(role="assistant", content=completion.text))
        assert talk.turns == [*before[left_out:], *spoken]
        assert completion.text == _directly(greedy, *((turn.role, turn.content) for turn in talk.turns[:-1])).text
    assert dropped == [0, 0, 2]
    with pytest.raises(SettingError, match="that has 45 tokens, and there is room for 30; say it shorter"):
        talk.answer("the cat " * 20)
    assert talk.turns[-1].role == "assistant"


def test_left_out_turns_and_too_long_ones_are_said_in_a_line(model, say, monkeypatch):
    lines = ("the cat sat on the mat", "a dog ran on the mat", "the cat " * 20, "/what")
    said = _talk(monkeypatch, say, model, *lines, options=("--max-tokens", "108", "--dtype", "bfloat16"))
    assert "(the oldest 2 turns no longer fit and were left out)\n" in said
    assert "that has 45 tokens, and there is room for 20; say it shorter\n" in said
    assert "/what: no such command; /reset forgets" in said


def test_ctrl_c_at_the_prompt_leaves_quietly(model, capsys, monkeypatch):
    def interrupt(prompt=""):
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupt)
    assert main(["sample", str(model), "--chat"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_turns_of_nearly_one_length_share_a_program(greedy):
    """Prompts are padded to buckets: a conversation does not compile anew for each turn."""
    programs = greedy._sampler.prefill_program, greedy._sampler.decode_program
    for program in programs:
        program.clear_cache()
    for words in ("the cat", "the cat sat", "the cat sat on", "a dog"):
        _directly(greedy, ("user", words))
    assert [program._cache_size() for program in programs] == [1, 1]


# --- mistakes ------------------------------------------------------------------------------------


def _mistake(capsys, *words):
    assert main(["sample", *map(str, words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-n", "0"), "-n 0: expected 1 or more"),
        (("--temperature", "-1"), "--temperature -1.0: "),
        (("--top-p", "0"), "--top-p 0.0: "),
        (("--top-k", "0"), "--top-k 0: "),
        (("--max-tokens", "0"), "--max-tokens 0: "),
        (("--max-tokens", "128"), "--max-tokens 128: .* made for 128 positions"),
        (("--max-tokens", "125"), "has room for 3 before a completion of 125: shorten it or lower --max-tokens"),
        (("--seed", "-1"), "--seed -1: expected 0 to"),
        (("--step", "9"), "--step 9: .* is no run folder"),
        (("--template", "thinking"), "--template thinking: expected KEY=VALUE"),
        (("--template", "thinking=false"), "template_arguments.thinking: .* reads no such argument"),
        (("--raw", "--system", "a dog"), "--system: .* without a chat template"),
        (("--chat",), "--chat: what you say is the prompt"),
    ],
)
def test_a_mistake_is_one_line(options, said, model, capsys):
    assert re.search(said, _mistake(capsys, model, "--prompt", "the cat", *options))


def test_a_step_that_was_not_kept(run, capsys):
    assert "--step 7: " in _mistake(capsys, run, "--prompt", "the cat", "--step", 7)


def test_an_unknown_source(tmp_path, capsys):
    assert "no such folder" in _mistake(capsys, tmp_path / "nowhere" / "at-all", "--prompt", "the cat")


def test_no_prompt_at_all(run, capsys, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdin", terminal)
    assert "no prompt; write --prompt TEXT" in _mistake(capsys, run)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert "--prompt: it is empty" in _mistake(capsys, run)


def test_a_conversation_needs_a_template(run, model, capsys):
    assert "has no chat template" in _mistake(capsys, run, "--chat")
    assert "--chat: --raw gives" in _mistake(capsys, model, "--chat", "--raw")


def test_a_system_message_the_template_refuses(model, tmp_path, capsys):
    copy = shutil.copytree(model, tmp_path / "model")
    hf(template=NO_SYSTEM_TEMPLATE).save_pretrained(copy)
    assert "tokenizer.system: " in _mistake(capsys, copy, "--chat", "--system", "a dog")


def test_control_characters_of_prompts_and_completions_are_shown_as_escapes(model, monkeypatch, capsys):
    hostile = "a\x1b]0;owned\x07\u202eb"
    prompt = Prompt(id=0, text=hostile)
    said = [Completion(prompt=prompt, sample=n, text=hostile, token_count=1, ended=True) for n in (0, 1)]
    monkeypatch.setattr("dar_jax.policies.sample.PolicySampler.completions", lambda *_: said)
    sample(str(model), [hostile, hostile], 2, SampleRequest())
    shown = capsys.readouterr().out
    assert not set(shown) & {"\x1b", "\x07", "\u202e"}
    assert shown.count(r"a\u001b]0;owned\u0007\u202eb") == 3
