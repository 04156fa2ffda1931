"""A whole comparison of the nano policy by the command line: what fails, is cut or is done, and what is left of it."""

import fcntl
import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from dar_jax.cli.main import main
from dar_jax.errors import DarError
from dar_jax.experiments import comparing
from dar_jax.experiments.running import Running
from dar_jax.runlog import RunFolder
from tests.experiments.pretending import pretend
from tests.nano import lasting

TWO = """
compare:
  seeds: 2
  evaluations: 3
  algorithms:
    dar:
    pairs: {algorithm.name: online_dpo, group_size: 2, prompts_per_step: 16}
"""


@pytest.mark.slow
def test_a_comparison_goes_on_until_all_is_there(write, tmp_path, capsys):
    config, out = str(write(TWO)), tmp_path / "out"
    command = ["compare", config, "checkpoints.every_steps=1", "--output", str(out), "--jobs", "2"]
    # Something lies where one run is to go: it fails, the others do not.
    (out / "pairs/seed-1").mkdir(parents=True)
    (out / "pairs/seed-1/mine").touch()
    assert main(command) == 1
    told = capsys.readouterr()
    assert "pairs/seed-1: failed with status 2" in told.out
    assert "1 runs failed" in told.err
    rows = json.loads((out / "comparison.json").read_text())["rows"]
    assert [(row["name"], row["runs"], row["planned"]) for row in rows] == [("dar", 2, 2), ("pairs", 1, 2)]

    # A run that was killed in its last step goes on to the same numbers; what is done is left alone.
    cut, untouched = RunFolder(out / "dar/seed-1"), RunFolder(out / "dar/seed-0")
    before, kept = cut.read("metrics"), (untouched.path / "metrics.jsonl").stat().st_mtime_ns
    shutil.rmtree(max(cut.checkpoints.glob("[0-9]*"), key=lambda path: int(path.name)))
    shutil.rmtree(out / "pairs/seed-1")
    assert main(command) == 0
    assert lasting(cut.read("metrics")) == lasting(before)
    assert (untouched.path / "metrics.jsonl").stat().st_mtime_ns == kept
    assert "4/4" in capsys.readouterr().out

    rows = json.loads((out / "comparison.json").read_text())["rows"]
    assert [(row["name"], row["runs"], row["annotations"]) for row in rows] == [("dar", 2, 96), ("pairs", 2, 96)]
    assert rows[0]["ratio"]["value"] == 1.0
    assert "| pairs | 2 | 96 |" in (out / "comparison.md").read_text()
    # One ledger for all of them, and another for held-out judgements.
    assert not list(out.rglob("seed-*/*.sqlite"))
    assert main(["ledger", "audit", str(out / "dar/seed-0")]) == 0
    assert "completions with a reward: sound" in capsys.readouterr().err
    assert main(["ledger", "stats", str(out)]) == 0
    assert main([*command, "group_size=8"]) == 2
    assert "was begun with other settings" in capsys.readouterr().err


@pytest.mark.slow
def test_a_signal_saves_the_runs_under_way(write, tmp_path):
    config, out = str(write(TWO)), tmp_path / "out"
    command = [sys.executable, "-m", "dar_jax", "compare", config, "compare.seeds=1", "compare.annotations=96000"]
    run = RunFolder(out / "dar/seed-0")
    with subprocess.Popen([*command, "--output", str(out)], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not run.read("metrics") and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 5
    assert "the same command goes on" in told
    assert "resume with: dar-jax train --resume" in (out / "dar/seed-0.log").read_text()
    assert not (out / "pairs").exists()


@pytest.mark.slow
def test_a_sweep_draws_its_heat_map(write, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    axes = ["--grid", "algorithm.alpha_ratio=0.1,0.4", "--grid", "algorithm.total_regularization=0.05"]
    assert main(["sweep", str(write()), "steps=1", *axes, "--seeds", "1", "--output", str(out), "--jobs", "2"]) == 0
    rows = json.loads((out / "comparison.json").read_text())["rows"]
    assert [row["point"]["algorithm.alpha_ratio"] for row in rows] == [0.1, 0.4]
    assert "![heat-map.svg](heat-map.svg)" in (out / "comparison.md").read_text()


@pytest.fixture
def done(plan, write, tmp_path):
    """A comparison whose runs are all done, as a command that reports it."""
    for cell in plan(TWO).compared({}):
        pretend(cell, tmp_path / "out", (3, 5, 7 - (cell.name == "pairs")))
    return ["compare", str(write(TWO)), "--output", str(tmp_path / "out")]


def test_what_is_done_is_reported_without_a_run(done, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main(done) == 0
    told = capsys.readouterr().out
    assert "4 runs, 4 of them done" in told
    assert "level 6.00" in told
    page = (tmp_path / "out/comparison.md").read_text()
    assert "![curves.svg](curves.svg)" in page
    assert (tmp_path / "out/curves.svg").is_file()
    assert main([*done, "--json", "--level", "8"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["level"], row["to_level"]["value"], row["ratio"]["value"]) for row in rows] == [
        (8.0, "never", None)
    ] * 2


def test_without_matplotlib_the_tables_come_and_a_line_says_so(done, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(comparing, "find_spec", lambda name: None)
    assert main(done) == 0
    assert "no plots: pip install 'dar-jax[plots]'" in capsys.readouterr().out
    assert "| pairs | 2 | 96 |" in (tmp_path / "out/comparison.md").read_text()
    assert not list((tmp_path / "out").glob("*.svg"))


def test_a_run_of_another_command_is_not_begun_twice(plan, tmp_path):
    found = plan(TWO)
    (cell, *_) = found.compared({})
    log = found.folder / cell.place.with_name("seed-0.log")
    log.parent.mkdir(parents=True)
    with log.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DarError, match="still under way, begun by another command"):
            Running([cell], found.folder, [{}]).run(print)
    assert not (found.folder / cell.place).exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["compare", "--algorithms", "dra"], "dra is none of dar"),
        (["compare", "--algorithms", "dar", "--judges", "mean"], "mean is none of compare.judges (none)"),
        (["compare"], "no algorithms to compare; list them by --algorithms"),
        (["compare", "--algorithms", "dar", "--seeds", "0"], "--seeds 0: expected a whole number above 0"),
        (["compare", "--algorithms", "dar", "--annotations", "33"], "a step of dar takes 32 annotations"),
        (["compare", "--algorithms", "dar", "--output", "a=b"], "a path with = is read as a setting"),
        (["sweep", "--grid", "algorithm.alpha_ratio"], "expected KEY=VALUE,..."),
        (["sweep", "--grid", "algorithm.alpha_ratoi=1"], "did you mean algorithm.alpha_ratio?"),
        (["sweep", "--grid", "algorithm.alpha_ratio=[1"], "not readable as YAML"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_runs(write, tmp_path, capsys, arguments, told):
    verb, *options = arguments
    assert main([verb, str(write()), "--output", str(tmp_path / "out"), *options]) == 2
    said = capsys.readouterr().err.strip()
    assert told in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_override_in_the_place_of_a_config_is_one_line(capsys):
    assert main(["compare", "steps=3"]) == 2
    assert "compare: no config file" in capsys.readouterr().err
