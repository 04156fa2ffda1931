import subprocess
import sys

import pytest

from dar_jax.errors import SettingError
from dar_jax.judging import OpenAIJudge, PanelJudge, ScriptedJudge
from dar_jax.judging.section import members, parse_judge, read_judge

RUN = "policy: {path: a/model}\ndata: {path: b}\njudge: {name: openai, model: m, levels: 5}\nsteps: 3\n"


def test_the_judge_of_a_run_is_read_and_the_rest_left(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(RUN)
    assert read_judge(path) == OpenAIJudge(model="m", levels=5)
    assert read_judge(path, ["judge.mode=single"]) == OpenAIJudge(model="m", levels=5, mode="single")
    assert read_judge(path, ["judge.name=scripted"]) == ScriptedJudge()


def test_a_config_may_be_a_judge_alone():
    assert parse_judge("judge: {name: scripted, temperature: 1e-6}", where="x") == ScriptedJudge(temperature=1e-6)
    assert parse_judge("steps: 3", where="x") is None


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("steps: 3", [], "it has no judge"),
        (RUN, ["steps=4"], "only the judge is used here"),
        (RUN, ["judge.levle=4"], r"judge\.levle: there is no such setting"),
        (RUN, ["judge.levels=99"], r"judge\.levels: got 99, expected less than or equal to 10"),
        (RUN, ["judge.name=nobody"], r"judge\.name: got 'nobody', expected one of openai, gemini, scripted, panel"),
        ("judge: {name: scripted, rubric_text: ' '}", [], "judge: rubric_text is empty"),
        ("judge: 3", [], "judge"),
        ("- a", [], "expected `key: value` lines"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, text, overrides, said):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(SettingError, match=said) as caught:
        read_judge(path, overrides)
    assert "\n" not in str(caught.value)


def test_jax_is_not_needed():
    rooms = "dar_jax.reporting.ledgers, dar_jax.relabeling.relabel, dar_jax.cli.main"
    code = f"import sys, {rooms}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


PANEL = "judge: {name: panel, judges: [{name: scripted}, {name: openai, model: m, %s}]}"


def test_a_panel_is_read_without_jax_too():
    found = parse_judge(PANEL % "levels: 10", where="x")
    assert found == PanelJudge(judges=(ScriptedJudge(), OpenAIJudge(model="m")))
    assert members(found) == found.judges
    assert members(ScriptedJudge()) == (ScriptedJudge(),)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("colour: 1", r"^x: judge\.judges\.1\.colour: there is no such setting"),
        ("levels: 99", r"^x: judge\.judges\.1\.levels: got 99, expected"),
        ("name: panel", r"^x: judge\.judges\.1\.name: got 'panel', expected one of openai, gemini, scripted$"),
    ],
)
def test_a_mistake_in_a_panel_names_the_judge(given, said):
    text = PANEL.replace("name: openai, ", "") if given.startswith("name") else PANEL
    with pytest.raises(SettingError, match=said):
        parse_judge(text % given, where="x")
