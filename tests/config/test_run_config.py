"""A mistake in the settings: one line that names the key, what came and the way out."""

import json
import re

import pytest

from dar_jax.config.config_file import parse_config, read_config, to_yaml
from dar_jax.config.run_config import RunConfig, differences, is_free
from dar_jax.errors import SettingError
from dar_jax.settings.hints import field_names

SMALL = "{policy: {path: p}, data: {path: d.jsonl}, judge: {name: scripted}}"


def _parse(*overrides, text=SMALL):
    return parse_config(text, overrides, where="run.yaml")


def test_the_defaults_are_the_papers():
    config = _parse()
    assert config.algorithm.name == "dar"
    assert (config.algorithm.alpha_ratio, config.algorithm.total_regularization) == (0.1, 0.05)
    assert config.rows_per_step == 512
    assert config.learning.updates_per_batch == 4
    optimizer = config.learning.optimizer
    assert (optimizer.name, optimizer.learning_rate) == ("adafactor", 1e-6)


def test_overrides_are_values_not_strings():
    config = _parse("learning.optimizer.learning_rate=1e-5", "algorithm={alpha_ratio: 0.4}", "judge.mode=single")
    assert config.learning.optimizer.learning_rate == 1e-5
    assert config.algorithm.alpha_ratio == 0.4
    assert config.judge.mode == "single"


def test_another_kind_of_component_replaces_the_first():
    text = "{policy: {path: p}, data: {path: d}, judge: {name: openai, model: m, levels: 5}}"
    assert _parse("judge.levels=4", text=text).judge.model == "m"
    judge = _parse("judge={name: scripted, scorer: overlap}", text=text).judge
    assert (judge.name, judge.levels) == ("scripted", 10)


def test_what_is_written_reads_back_the_same():
    config = _parse("steps=7", "learning.optimizer={name: adamw, learning_rate: 1e-3}")
    again = parse_config(to_yaml(config), where="config.yaml")
    assert again == config
    assert differences(config, again) == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("stepz=3", "stepz: there is no such setting; did you mean steps?"),
        ("algorithm.weigth_clip=3", "algorithm.weigth_clip: there is no such setting; did you mean"),
        ("learning.optimizer.learnin_rate=1", "did you mean learning.optimizer.learning_rate?"),
        ("judge.mod=single", "did you mean judge.mode?"),
        ("steps=abc", "steps: got 'abc', expected a valid integer"),
        ("sampling=3", "sampling: got 3, expected settings of its own"),
        ("algorithm.weight_clip=0", "algorithm.weight_clip: got 0, expected greater than 0"),
        ("algorithm.weight_clip=-1", "algorithm.weight_clip: got -1"),
        ("algorithm.name=pppo", "algorithm.name: got 'pppo', expected one of dar, awr, var"),
        ("group_size=1", "set algorithm.baseline=batch"),
        ("algorithm={kl_ref_coef: 0.1, alpha_ratio: 0.1}", "algorithm: both KL notations given"),
        ("judge=null", "judge: algorithm dar learns from rewards"),
        ("learning.micro_batch_size=3", "learning.micro_batch_size: an update's 128 completions"),
        ("learning.updates_per_batch=7", "learning.updates_per_batch: 512 completions"),
        ("sampling.top_p=0", "sampling.top_p: got 0"),
        ("policy=null", "policy: got None"),
        ("steps", "not an override"),
        ("lr=1e-5", "lr: there is no such setting; write learning.optimizer.learning_rate"),
        ("learning_rate=1e-5", "write learning.optimizer.learning_rate"),
        ("learning.lr=1e-5", "write learning.optimizer.learning_rate"),
        ("algorithm.tau=1", "write algorithm.total_regularization"),
        ("algorithm.rho=1", "write algorithm.alpha_ratio"),
        ("algorithm.beta=1", "write algorithm.kl_sampling_coef"),
        ("policy.model=x", "write policy.path"),
        ("judge.top_p=1", "judge.top_p: there is no such setting; "),
        ("data={name: minitldr, seed: -1}", "data.seed: got -1"),
        ("data.seed=1", "data.seed: there is no such setting; it is a setting of data.name=minitldr"),
        ("steps=1__0", "steps: got '1__0', expected a valid integer"),
        ("steps=1e400", "steps: got inf, expected a finite number"),
        ("mesh.tensor=1e30", "mesh.tensor: got 1e+30, expected a whole number below 2147483648"),
        ("report_to=wandb", "every step is in metrics.jsonl"),
        ("=3", "not an override"),
    ],
)
def test_one_line_names_the_key_and_the_way_out(override, said):
    with pytest.raises(SettingError) as caught:
        _parse(override)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_every_mistake_has_its_line():
    with pytest.raises(SettingError) as caught:
        _parse("stepz=3", "seed=-1")
    assert len(str(caught.value).splitlines()) == 2


TRL = """
model_name_or_path: Qwen/Qwen3-0.6B
dataset_name: trl-lib/tldr
reward_funcs: my.reward
output_dir: out
learning_rate: 1e-6
beta: 0.04
temperature: 0.9
num_generations: 8
max_prompt_length: 512
max_completion_length: 256
per_device_train_batch_size: 4
gradient_accumulation_steps: 8
max_steps: 100
save_steps: 50
logging_steps: 1
report_to: wandb
"""


def test_a_config_of_trl_is_answered_line_by_line():
    with pytest.raises(SettingError) as caught:
        _parse(text=TRL)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(TRL.split("\n")) - 2
    assert not [line for line in lines if "did you mean" in line or "there are" in line or "missing" in line]
    for ours in ("policy.path", "data.path", "judge", "--run-dir", "group_size", "steps", "checkpoints.every_steps"):
        assert any(f"write {ours}" in line or f"write the option {ours}" in line for line in lines), ours


def test_every_foreign_name_is_answered_by_a_setting_that_exists():
    from dar_jax.settings import foreign_names

    settings = {"judge": {"name": "openai"}, "algorithm": {}, "learning": {"optimizer": {}}, "data": {"name": "files"}}
    for key, answer in {**foreign_names._OURS, **foreign_names._KEYS}.items():
        for named in re.findall(r"\b(?:[a-z_]+\.)+[a-z_0-9]+", answer):
            path = tuple(named.split("."))
            assert path[-1] in {*field_names(path[:-1], RunConfig, settings), "kl_ref_coef", "kl_sampling_coef"}, (
                key,
                named,
            )


def test_a_missing_setting_is_named():
    with pytest.raises(SettingError, match=r"run.yaml: policy: missing"):
        _parse(text="{data: {path: d.jsonl}, judge: {name: scripted}}")


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2", "steps: ${nothing}"])
def test_what_is_no_settings_file(text):
    with pytest.raises(SettingError, match=r"run.yaml: "):
        _parse(text=text)


def test_a_missing_file_names_a_near_one(tmp_path):
    (tmp_path / "quickstart.yaml").write_text("steps: 1")
    with pytest.raises(SettingError, match=r"did you mean .*quickstart.yaml"):
        read_config(tmp_path / "quikstart.yaml")


def test_a_resume_may_change_what_does_not_decide_the_numbers():
    old = _parse()
    assert differences(old, _parse("steps=9", "display.mode=quiet", "checkpoints.keep=9")) == []
    changed = differences(old, _parse("group_size=8", "algorithm.alpha_ratio=0.2", "steps=9"))
    assert changed == ["algorithm.alpha_ratio: 0.1 -> 0.2", "group_size: 4 -> 8"]


def test_components_pass_their_freedom_down():
    free = ["mesh.tensor", "evaluation.judge.model", "judge.prices.input", "judge.judges.1.concurrency", "data.path"]
    assert all(map(is_free, free))
    assert not any(map(is_free, ["policy.lora.rank", "judge.rubric", "judge.judges.0.model", "data.split", "gone"]))


PANEL = """
policy: {path: p}
data: {path: d.jsonl}
judge:
  name: panel
  judges:
    - {name: scripted}
    - {name: openai, model: m, base_url: "http://h/v1"}
"""


def test_a_panels_judges_are_free_and_fixed_as_a_judge_alone_is():
    old = _parse(text=PANEL)
    moved = PANEL.replace("http://h/v1", "http://other/v1").replace("scripted}", "scripted, concurrency: 2}")
    assert differences(old, _parse(text=moved)) == []
    assert differences(old, _parse("judge.budget_annotations=5", text=PANEL)) == []
    assert differences(old, _parse(text=PANEL.replace("model: m", "model: n"))) == ["judge.judges.1.model: 'm' -> 'n'"]
    assert parse_config(to_yaml(old), (), where="config.yaml") == old


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("model: m", "modle: m"), "judge.judges.1.model"),
        (
            ("name: scripted", "name: nobody"),
            "judge.judges.0.name: got 'nobody', expected one of openai, gemini, scripted",
        ),
        (("model: m", "model: m, levels: 3"), "judges of 3 and 10 levels have no mean"),
        (("name: scripted", "name: scripted, budget_usd: 1"), "state it beside judges"),
    ],
)
def test_a_mistake_in_a_panel_is_one_line(change, said):
    with pytest.raises(SettingError) as caught:
        _parse(text=PANEL.replace(*change))
    assert said in str(caught.value)


RUBRIC = """
policy: {path: p}
data: {path: d.jsonl}
judge: {name: scripted, rubric_file: %s}
"""


@pytest.mark.parametrize("words", ["plain", "${x} \\${y} \\\\${z} $ {a} ${oc.env:HOME}", "{x} %s 'a' \"b\": # c"])
def test_what_is_written_holds_a_rubrics_file_and_reads_it_back(tmp_path, words):
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps({"instructions": words, "levels": ["bad ${x}", "good"]}))
    config = _parse(text=RUBRIC % path)
    written = to_yaml(config)
    path.unlink()
    again = parse_config(written, (), where="config.yaml")
    assert again == config
    assert again.judge.rubric.instructions == words


def test_a_resume_notices_another_rubric(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("instructions: Mine.")
    old = _parse(text=RUBRIC % path)
    moved = path.rename(tmp_path / "moved.yaml")
    assert differences(old, _parse(text=RUBRIC % moved)) == []
    moved.write_text("instructions: Another.")
    assert differences(old, _parse(text=RUBRIC % moved)) == [
        "judge.rubric.instructions: 'Mine.' -> 'Another.'",
    ]


def test_a_judge_that_compares_needs_two_completions_a_prompt():
    alone = "algorithm={name: dar, baseline: batch}"
    with pytest.raises(SettingError, match=r"group_size: judge\.labels=preference"):
        _parse("judge.labels=preference", "group_size=1", alone)
    assert _parse("judge.labels=preference", "group_size=2").judge.labels == "preference"


def test_recorded_pairs_that_an_algorithm_would_ignore_are_refused():
    text = "{policy: {path: p}, data: {name: minitldr, pairs: true}, judge: {name: scripted}}"
    with pytest.raises(SettingError, match=r"data.pairs: algorithm dual_dpo would not learn from the recorded pairs"):
        _parse("algorithm.name=dual_dpo", text=text)
    assert _parse("algorithm.name=offline_dpo", "judge=null", text=text).data.pairs
