import json
import math
import os
import resource
import signal
import stat
import subprocess
import sys

import pytest

from dar_jax.errors import DarError, SettingError
from dar_jax.runlog import RunFolder


@pytest.fixture
def folder(tmp_path):
    made = RunFolder.create(tmp_path / "run", "steps: 3\n")
    made.checkpoints.mkdir()
    yield made
    made.close()


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


@pytest.mark.parametrize("torn", [b'{"step": 3, "a": "\xe2\x82', b"\0\0\0\0", b'{"step": 3}', b"["], ids=repr)
def test_a_kill_at_any_byte_leaves_a_run_that_resumes(folder, torn):
    folder.write("completions", [{"step": 1, "a": "\u20ac"}, {"step": 2}])
    with (folder.path / "completions.jsonl").open("ab") as file:
        file.write(torn)
    assert [row["step"] for row in folder.read("completions")] == [1, 2]
    folder.forget_after(2, completions=2)
    folder.write("completions", [{"step": 3}])
    assert [row["step"] for row in folder.read("completions")] == [1, 2, 3]


@pytest.mark.parametrize(
    "line", [b"\0\0", b"", b"[]", b"3", b'{"a": 1}', b'{"step": "2"}', b'{"step": 2', b"\xe2\x82", b"[" * 99_999]
)
def test_a_damaged_line_is_named_by_file_and_number(folder, line):
    (folder.path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n')
    for look in (lambda: folder.read("metrics"), lambda: folder.forget_after(9, completions=9)):
        with pytest.raises(SettingError, match=r"/metrics\.jsonl, line 2: damaged \(.*delete this line") as caught:
            look()
        assert "\n" not in str(caught.value)


def test_a_lone_surrogate_in_a_prompt_is_written_and_read(folder):
    folder.write("completions", [{"step": 1, "prompt": "\ud800"}])
    assert folder.read("completions") == [{"step": 1, "prompt": "\ud800"}]


def test_rows_that_two_runs_wrote_are_cut_back_too(folder):
    folder.write("metrics", [{"step": step} for step in (1, 2, 1, 2)])
    folder.forget_after(1, completions=1)
    assert folder.read("metrics") == [{"step": 1}, {"step": 1}]


def test_only_the_owner_can_read_a_run_folder(folder):
    folder.write("completions", [{"step": 1}])
    with folder.filling_policy():
        pass
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (folder.path, *folder.path.iterdir())}
    del modes["checkpoints"]  # this test's own
    assert {name: mode for name, mode in modes.items() if mode & 0o077} == {}


@pytest.mark.parametrize("where", ["file", "file/run", "/proc/run", "/dev/full/run", "a" * 300])
def test_a_place_that_cannot_be_written_is_one_line_and_no_resume(tmp_path, where):
    (tmp_path / "file").write_text("mine")
    for attempt in (RunFolder.check, lambda path: RunFolder.create(path, "")):
        with pytest.raises(SettingError, match=r"^--run-dir .*(folder|place)") as caught:
            attempt(tmp_path / where)
        assert "--resume" not in str(caught.value)


def test_a_check_leaves_nothing_behind(tmp_path):
    RunFolder.check(tmp_path / "new" / "run")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    RunFolder.check(tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_start_that_was_killed_early_is_no_run(tmp_path):
    """Between the lock and the settings: the next start goes there."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text("")
    RunFolder.create(tmp_path / "run", "steps: 3\n").close()


def test_a_second_process_is_refused_and_told_who_is_there(folder, tmp_path):
    code = f"from dar_jax.runlog import RunFolder; RunFolder.reopen({str(folder.path)!r}).lock()"
    refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"SettingError: {folder.path}: process {os.getpid()} on " in refused.stderr
    folder.close()
    again = RunFolder.reopen(folder.path)
    again.lock()
    with pytest.raises(SettingError, match="is running there"):
        RunFolder.reopen(folder.path).lock()
    again.close()


def test_a_file_system_without_locks_is_warned_of(folder, monkeypatch, capsys):
    def flock(file, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", flock)
    RunFolder.reopen(folder.path).lock()
    assert "has no locks (Operation not supported)" in capsys.readouterr().err


@pytest.fixture
def full_disk():
    """No file of this process may grow beyond a few bytes."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, former[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, former)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_one_line_with_the_way_on_and_leaves_a_run_that_resumes(folder, full_disk):
    folder.write("metrics", [{"step": 1}])
    with pytest.raises(DarError, match=rf"^{folder.path}: metrics.jsonl cannot be written: .*--resume {folder.path}$"):
        folder.write("metrics", [{"step": 2, "loss": 0.25}])
    with pytest.raises(DarError, match=r"config.yaml cannot be written"):
        folder.write_config("steps: 3\n" * 9)
    assert folder.config_yaml() == "steps: 3\n"
    folder.forget_after(1, completions=1)  # takes no room
    assert folder.read("metrics") == [{"step": 1}]
