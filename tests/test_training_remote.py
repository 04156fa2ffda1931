"""Whole runs of the nano policy under a URL: the numbers of a run in a folder, resumes to the bit."""

import shutil

import pytest

from dar_jax.checkpoints import huggingface
from dar_jax.cli.main import main
from dar_jax.config.config_file import parse_config
from dar_jax.errors import DarError
from dar_jax.policies.export import export
from dar_jax.policies.policy import is_run, open_policy
from dar_jax.run.reporter import Reporter
from dar_jax.runlog import RemoteFolder, RunFolder, objects
from dar_jax.training import Run, resume, train
from tests import nano
from tests.fake_gcs import BRIEF, NEEDS_GCSFS
from tests.kept_runs import same

LOGS = ("metrics", "completions", "evaluations")


@pytest.fixture(scope="module")
def plain(config_text, tmp_path_factory):
    """The run in a folder."""
    path = tmp_path_factory.mktemp("runs") / "plain"
    train(parse_config(config_text, where="run.yaml"), path)
    return RunFolder(path)


def lasting(folder):
    """Drop what the clock and the ledger put into the logs."""
    return nano.lasting([row for log in LOGS for row in folder.read(log)])


def cut_back(url, number):
    """Make it as if the run had died right after checkpoint `number`."""
    folder = RemoteFolder(url)
    places = [name.split("/") for name in folder._objects.under("checkpoints")]
    late = {place[1] for place in places if place[1].isdigit() and int(place[1]) > number}
    folder._objects.delete("/".join(place) for place in places if place[1] in late)
    if url.startswith("file://"):  # an empty folder is a checkpoint to Orbax
        for each in late:
            shutil.rmtree(folder.checkpoints / each)


def check_run(config_text, plain, url, numbers, scratch):
    train(parse_config(config_text, where="run.yaml"), url)
    run = RemoteFolder(url)
    assert lasting(run) == lasting(plain)
    folders = [
        f"{name}/" for name in ("checkpoints", "completions", "evaluations", "ledger", "metrics", "policy", "timeline")
    ]
    assert run.contents() == sorted([*folders, "config.yaml", "owner.json"])
    for number in numbers:
        cut_back(url, number)
        resume(url, [])
        assert lasting(run) == lasting(plain)
    # All that was redone had been paid for; whoever reads the ledger anew finds it there.
    assert [row["judge/billed_calls"] for row in run.read("metrics")][1:] == [0, 0]
    assert is_run(url)
    same(open_policy(url, 2).params, open_policy(plain.path, 2).params)
    for source, output in ((url, scratch / "ours"), (plain.path, scratch / "theirs")):
        export(source, output)
    same(huggingface.load(scratch / "ours")[1], huggingface.load(scratch / "theirs")[1])
    assert (scratch / "ours/tokenizer.json").read_bytes() == (scratch / "theirs/tokenizer.json").read_bytes()


@pytest.mark.slow
def test_a_run_under_a_url_is_the_run_in_a_folder(config_text, plain, tmp_path):
    """Also when it goes on from within a step."""
    check_run(config_text, plain, f"file://{tmp_path}/x", [4], tmp_path)


@NEEDS_GCSFS
@pytest.mark.slow
class TestBucket:
    def test_a_run_in_a_bucket_is_the_run_in_a_folder(self, config_text, plain, gcs, tmp_path):
        check_run(config_text, plain, "gs://bucket/runs/x", [6, 4], tmp_path)

    def test_a_run_that_lost_its_bucket_says_so_and_goes_on_later(self, config_text, plain, gcs, monkeypatch):
        monkeypatch.setattr(objects, "PATIENT", BRIEF)
        reported = Reporter.step

        def report_then_lose(*arguments):
            metrics = reported(*arguments)
            gcs.fault = lambda method, target: 503 if target.endswith("completions/00000003.jsonl") else None
            return metrics

        monkeypatch.setattr(Reporter, "step", report_then_lose)
        with pytest.raises(DarError, match=r"^gs://bucket/y/completions/00000003\.jsonl: .*; check the network"):
            train(parse_config(config_text, where="run.yaml"), "gs://bucket/y")
        gcs.fault = lambda method, target: None
        monkeypatch.setattr(Reporter, "step", reported)
        resume("gs://bucket/y", [])
        assert lasting(RemoteFolder("gs://bucket/y")) == lasting(plain)

    def test_a_bucket_whose_settings_cannot_be_read_is_a_mistake(self, config_text, gcs, tmp_path, capsys):
        gcs.fault = lambda method, target: 403 if target == "bucket" else None
        (tmp_path / "run.yaml").write_text(config_text)
        assert main(["train", str(tmp_path / "run.yaml"), "--run-dir", "gs://bucket/z"]) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        assert "roles/storage.bucketViewer" in said
        assert gcs.buckets["bucket"] == {}


def test_a_run_that_was_taken_over_stops(config_text, tmp_path, monkeypatch):
    url, saved = f"file://{tmp_path}/x", Run.save

    def save_then_lose(self):
        saved(self)
        if self.progress.step == 1:
            self.saved.__exit__(None, None, None)
            RemoteFolder.reopen(url).forget_after(1, completions=1)

    monkeypatch.setattr(Run, "save", save_then_lose)
    with pytest.raises(DarError, match=f"{url}: another run has taken this folder over"):
        train(parse_config(config_text, ["evaluation=null"], where="run.yaml"), url)
    assert [row["step"] for row in RemoteFolder(url).read("metrics")] == [1]


@pytest.mark.parametrize(
    ("run_dir", "told"),
    [
        ("file://{0}/run.yaml/x", "Not a directory"),
        ("s3://bucket/x", "expected a folder, gs://BUCKET/PATH or file:///PATH"),
        ("file://{0}/taken", "something is there already; resume it with --resume file://"),
    ],
)
def test_a_place_that_cannot_be_used_is_one_line_before_anything_is_loaded(
    config_text, tmp_path, capsys, monkeypatch, run_dir, told
):
    (tmp_path / "run.yaml").write_text(config_text)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    monkeypatch.setattr("dar_jax.training.open_session", None)
    assert main(["train", str(tmp_path / "run.yaml"), "--run-dir", run_dir.format(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert told in said


@pytest.mark.parametrize("command", [["train", "--resume"], ["export", "--output", "{0}/out"]])
def test_a_place_without_a_run_is_one_line(tmp_path, capsys, command):
    url = f"file://{tmp_path}/nowhere"
    assert main([word.format(tmp_path) for word in (*command, url)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.startswith(f"dar-jax: {'--resume ' * (command[0] == 'train')}{url}: nothing to ")
