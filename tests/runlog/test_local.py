import json
import math

import pytest

from dar_jax.errors import SettingError
from dar_jax.runlog import RunFolder


@pytest.fixture
def folder(tmp_path):
    made = RunFolder.create(tmp_path / "run", "steps: 3\n")
    made.checkpoints.mkdir()
    return made


def test_rows_are_read_back(folder):
    folder.write("metrics", [{"step": 1, "loss": 0.5, "bad": math.nan, "nested": {"inf": [math.inf]}}])
    assert folder.read("metrics") == [{"step": 1, "loss": 0.5, "bad": None, "nested": {"inf": [None]}}]
    assert folder.read("evaluations") == []


def test_contents_are_what_a_person_may_open(folder):
    for name in ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"):
        (folder.path / name).touch()
    assert folder.contents() == ["checkpoints/", "config.yaml", "ledger.sqlite"]


def test_a_resume_forgets_what_it_makes_again(folder):
    for step in (1, 2, 3):
        folder.write("metrics", [{"step": step}])
        folder.write("completions", [{"step": step, "row": row} for row in (0, 1)])
    folder.forget_after(1, completions=2)
    assert [row["step"] for row in folder.read("metrics")] == [1]
    assert [row["step"] for row in folder.read("completions")] == [1, 1, 2, 2]


def test_a_half_written_last_line_is_no_row(folder):
    folder.write("metrics", [{"step": 1}])
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "los')
    assert folder.read("metrics") == [{"step": 1}]
    folder.forget_after(5, completions=5)
    assert json.loads((folder.path / "metrics.jsonl").read_text()) == {"step": 1}


def test_a_folder_in_use_is_left_alone(folder):
    with pytest.raises(SettingError, match="--resume"):
        RunFolder.create(folder.path, "steps: 9\n")
    assert folder.config_yaml() == "steps: 3\n"


def test_nothing_to_resume_is_an_error(tmp_path):
    """Trap open-instruct#1823: a resume that finds nothing must not start afresh."""
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SettingError, match="nothing to resume"):
            RunFolder.reopen(path)


def test_a_text_may_hold_any_line_end(folder):
    row = {"step": 1, "completion": "one\u2028two\x85three\x0bfour\r\nfive"}
    folder.write("completions", [row])
    assert folder.read("completions") == [row]
    folder.forget_after(1, completions=1)
    assert folder.read("completions") == [row]
