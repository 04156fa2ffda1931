"""Whole runs of the nano policy: every algorithm, resumes to the bit, one device and eight."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from dar_jax.checkpoints import RunState
from dar_jax.cli.main import main
from dar_jax.config.config_file import parse_config
from dar_jax.errors import DarError, Interrupted, SettingError
from dar_jax.runlog import RunFolder
from dar_jax.training import Run, resume, train
from tests.nano import AFTER_STEPS, CLOCKS, lasting


@pytest.fixture(scope="module")
def done(config_text, tmp_path_factory):
    """A run of three steps that nothing stopped."""
    return _train(config_text, tmp_path_factory.mktemp("runs") / "done")


def _train(text, path, *overrides):
    train(parse_config(text, overrides, where="run.yaml"), path)
    return RunFolder(path)


def _untimed(folder, log="metrics"):
    rows = folder.read(log)
    return [{key: value for key, value in row.items() if not key.startswith(CLOCKS)} for row in rows]


def _words(folder):
    return [(row["prompt_id"], row["sample"], row["completion"], row["reward"]) for row in folder.read("completions")]


def _cut_back(folder, path, number):
    """Copy a run as if it had died right after checkpoint `number`."""
    shutil.copytree(folder.path, path)
    for each in (path / "checkpoints").iterdir():
        if each.name.isdigit() and int(each.name) > number:
            shutil.rmtree(each)
    return RunFolder(path)


def test_a_run_leaves_what_it_says(done):
    metrics = done.read("metrics")
    assert [row["step"] for row in metrics] == [1, 2, 3]
    wanted = (
        "loss rewards/mean advantages/abs_max objective/kl objective/kl_k3 kl/sampling_k3 dar/clip_fraction"
        " dar/near_zero_fraction dar/weight_mean dar/weight_max dar/effective_sample_size dar/reference_share"
        " completions/mean_length completions/clipped_ratio"
        " sampler/logprob_diff_mean sampler/logprob_diff_max judge/ok judge/failed"
        " judge/billed_calls judge/cost_usd seconds/sample seconds/recall seconds/judge_wait seconds/regress"
        " seconds/step throughput/sampled_tokens_per_s optimizer/grad_norm"
    )
    assert set(wanted.split()) <= metrics[0].keys()
    rows = done.read("completions")
    assert len(rows) == 3 * 8 * 4
    columns = "prompt completion verdict reward advantage weight step"
    assert set(columns.split()) <= rows[0].keys()
    assert done.read("evaluations")[-1]["step"] == 3
    assert "scorer: overlap" in done.config_yaml()
    assert done.ledger.exists()


def test_the_step_0_invariant(done):
    """Policy == reference: the log-ratio, and so the KL, is exactly 0, whatever the sampler's own numbers."""
    first, *rest = done.read("metrics")
    assert first["objective/kl"] == first["objective/kl_k3"] == first["dar/log_weight_reference"] == 0
    assert first["sampler/logprob_diff_max"] < 1e-4
    assert rest[-1]["objective/kl"] != 0


def test_sampled_groups_differ(done):
    """Trap tinker-feedback#79: a fixed seed must not give one completion G times."""
    rows = done.read("completions")
    groups = {}
    for row in rows:
        groups.setdefault((row["step"], row["prompt_id"]), set()).add(row["completion"])
    assert np.mean([len(texts) for texts in groups.values()]) > 2


@pytest.mark.parametrize(("number", "override"), [(4, "reference.placement=host"), (6, None), (11, None)])
def test_a_resume_goes_on_to_the_bit(done, tmp_path, number, override):
    """Trap tunix#2290: also from the middle of a batch's updates, with no completion judged again."""
    again = _cut_back(done, tmp_path / "again", number)
    with (again.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "torn')
    billed = done.ledger.read_bytes()
    resume(again.path, [override] if override else [])
    for log in ("metrics", "completions", "evaluations"):
        assert _comparable(again, log) == _comparable(done, log)
    assert done.ledger.read_bytes() == billed


def _comparable(folder, log):
    """Drop what tells a paid answer from a replayed one."""
    return lasting(folder.read(log))


def test_a_run_killed_before_its_first_checkpoint_begins_again(done, tmp_path):
    again = RunFolder(shutil.copytree(done.path, tmp_path / "again", ignore=shutil.ignore_patterns("[me]*.jsonl")))
    shutil.rmtree(again.checkpoints)
    (again.policy / "config.json").unlink()
    resume(again.path, ["steps=1", "evaluation=null"])
    (row,) = again.read("metrics")
    assert row["judge/billed_calls"] == 0
    assert _comparable(again, "completions") == [each for each in _comparable(done, "completions") if each["step"] == 1]
    assert (again.policy / "config.json").is_file()


def test_a_run_whose_checkpoints_are_lost_is_left_alone(done, tmp_path):
    """Trap open-instruct#1823: a resume that finds nothing must not start afresh."""
    again = RunFolder(shutil.copytree(done.path, tmp_path / "again"))
    shutil.rmtree(again.checkpoints)
    with pytest.raises(SettingError, match=r"metrics.jsonl has steps, but there is no complete checkpoint"):
        resume(again.path, [])
    assert again.read("metrics") == done.read("metrics")


def test_nothing_is_billed_twice_after_a_resume(done, tmp_path):
    again = _cut_back(done, tmp_path / "again", 4)
    resume(again.path, [])
    assert [row["judge/billed_calls"] for row in again.read("metrics")][1:] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["{devices: 8, data: 2, fsdp: 2, tensor: 2}", "{devices: 8}"])
def test_eight_devices_give_the_numbers_of_one(config_text, done, tmp_path, mesh):
    many = _train(config_text, tmp_path / "many", f"mesh={mesh}", "steps=2", "evaluation=null", AFTER_STEPS)
    for one, other in zip(_untimed(done), _untimed(many), strict=False):
        assert one.keys() == other.keys()
        for key, value in one.items():
            np.testing.assert_allclose(other[key], value, rtol=1e-5, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("mesh", ["mesh.devices=1", pytest.param("mesh.devices=8", marks=pytest.mark.slow)])
def test_chunks_sample_the_same_and_are_judged_while_the_next_is_sampled(config_text, done, tmp_path, mesh):
    chunked = _train(config_text, tmp_path / "chunked", mesh, "sampling.chunks=4", AFTER_STEPS)
    assert _words(chunked) == _words(done)
    for ours, theirs in zip(_untimed(chunked), _untimed(done), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    spans = [row for row in chunked.read("timeline") if row["step"] == 1]
    (sampled,) = (span for span in spans if span["phase"] == "sample")
    judged = [span for span in spans if span["phase"] == "judge"]
    assert len(judged) == 4
    assert all(span["from_s"] <= span["to_s"] for span in spans)
    assert sum(span["from_s"] < sampled["to_s"] for span in judged) == 4


def test_sft_learns_recorded_completions(config_text, tmp_path):
    sft = _train(
        config_text, tmp_path / "sft", "algorithm={name: sft}", "judge=null", "evaluation=null", "steps=6", AFTER_STEPS
    )
    losses = [row["loss"] for row in sft.read("metrics")]
    assert losses[-1] < losses[0] - 0.5
    assert not (sft.path / "completions.jsonl").exists()


@pytest.mark.slow
def test_dar_raises_the_reward(config_text, tmp_path):
    run = _train(config_text, tmp_path / "dar", "steps=12", "prompts_per_step=16", "evaluation=null", AFTER_STEPS)
    rewards = [row["rewards/mean"] for row in run.read("metrics")]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.3


def test_a_resume_refuses_other_maths(done):
    with pytest.raises(SettingError, match=r"algorithm.alpha_ratio: 0.1 -> 0.2"):
        resume(done.path, ["algorithm.alpha_ratio=0.2"])


def test_a_resume_refuses_another_policy(done, config_text, tmp_path):
    again = _cut_back(done, tmp_path / "again", 8)
    text = again.config_yaml()
    start = parse_config(text, where="config.yaml").policy.path
    other = tmp_path / "other"
    shutil.copytree(start, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"initializer_range": 0.3}))
    again.write_config(text.replace(start, str(other)))
    with pytest.raises(SettingError, match=r"policy.path: .* is not what the run started from"):
        resume(again.path, [])


@pytest.mark.parametrize(
    "mistake", ["stepz=1", "data.path=nowhere.jsonl", "policy.path=./nowhere", "judge.scorer=nobody", "mesh.tensor=3"]
)
def test_a_mistake_is_one_line_and_leaves_no_folder(config_text, tmp_path, capsys, mistake):
    (tmp_path / "run.yaml").write_text(config_text)
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "run.yaml"), mistake, "--run-dir", str(run)]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("dar-jax: ")
    assert not run.exists()


def test_a_signal_saves_between_two_updates(config_text, tmp_path, monkeypatch):
    plain = Run.save

    def save_then_signal(self):
        plain(self)
        if (self.progress.step, self.progress.update) == (1, 2) and not self.interrupts.received:
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self, *error):
        handlers.append(signal.getsignal(signal.SIGHUP))
        durable(self, *error)

    handlers, durable = [], RunState.__exit__
    monkeypatch.setattr(RunState, "__exit__", close)
    monkeypatch.setattr(Run, "save", save_then_signal)
    with pytest.raises(Interrupted, match="--resume"):
        _train(config_text, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "6").is_dir()
    assert handlers != [signal.SIG_DFL]  # caught until the last byte is saved
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)] == [signal.SIG_DFL] * 2


def test_no_judge_is_paid_for_what_could_not_be_saved(config_text, tmp_path, monkeypatch):
    def fail(saved):
        if saved.numbers:
            raise DarError("checkpoint 4 cannot be written")

    monkeypatch.setattr(RunState, "check", fail)
    with pytest.raises(DarError, match="checkpoint 4 cannot be written"):
        _train(config_text, tmp_path / "run")
    assert {row["step"] for row in RunFolder(tmp_path / "run").read("completions")} <= {1}


def test_a_signal_while_the_run_starts_ends_it_at_once(config_text, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dar_jax.training.open_session", lambda *_: os.kill(os.getpid(), signal.SIGHUP))
    (tmp_path / "run.yaml").write_text(config_text)
    assert main(["train", str(tmp_path / "run.yaml"), "--run-dir", str(tmp_path / "run")]) == 5
    assert capsys.readouterr().err == "dar-jax: SIGHUP received before the first step. Nothing was saved\n"
    run = RunFolder.create(tmp_path / "run", config_text)
    run.close()
    assert main(["train", "--resume", str(run.path)]) == 5
    assert capsys.readouterr().err.endswith(f"first step. Resume with: dar-jax train --resume {run.path}\n")


def test_a_disk_that_fails_beside_the_run_is_told_with_the_way_on(config_text, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise DarError("the ledger l.sqlite cannot be written: database or disk is full")

    monkeypatch.setattr("dar_jax.training.open_session", fail)
    run = RunFolder.create(tmp_path / "run", config_text)
    run.close()
    assert main(["train", "--resume", str(run.path)]) == 1
    assert capsys.readouterr().err.endswith(f"\nResume what is saved with: dar-jax train --resume {run.path}\n")


def test_a_run_folder_in_use_is_refused_before_anything_is_loaded(config_text, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dar_jax.training.open_session", lambda *_: pytest.fail("loaded"))
    run = RunFolder.create(tmp_path / "run", config_text)
    assert main(["train", "--resume", str(run.path)]) == 2
    assert f"{run.path}: process {os.getpid()} on " in capsys.readouterr().err
    run.close()


@pytest.mark.slow
def test_a_killed_process_resumes(config_text, done, tmp_path):
    """A real process, killed without warning once its first checkpoint is there."""
    (tmp_path / "run.yaml").write_text(config_text)
    run = tmp_path / "run"
    command = [sys.executable, "-m", "dar_jax", "train"]
    process = subprocess.Popen([*command, str(tmp_path / "run.yaml"), "--run-dir", str(run)])
    while process.poll() is None and not (run / "checkpoints" / "4").exists():
        continue
    process.kill()
    process.wait()
    assert subprocess.run([*command, "--resume", str(run)], check=False).returncode == 0
    assert _comparable(RunFolder(run), "metrics") == _comparable(done, "metrics")
    assert Path(run / "checkpoints" / "12").is_dir()


def test_no_program_is_compiled_twice(config_text, tmp_path, caplog):
    """Each evaluation once built a sampler of its own, and compiled all that it runs."""
    with jax.log_compiles(), caplog.at_level("WARNING", logger="jax"):
        _train(config_text, tmp_path / "run", "steps=2", "sampling.chunks=2", "evaluation.every_steps=1", AFTER_STEPS)
    compiled = [message for message in caplog.messages if message.startswith("Compiling")]
    assert any("decode" in message for message in compiled)
    assert [message for message in set(compiled) if compiled.count(message) > 1] == []


@pytest.mark.slow
def test_preference_and_reward_are_two_judges_and_one_pipeline(config_text, tmp_path):
    """A judge that compares fills the same array: 0, 1/2 or 1 for two completions a prompt, and direct comparisons
    decide the held-out win rate."""
    run = _train(config_text, tmp_path / "run", "judge.labels=preference", "group_size=2", "steps=2", AFTER_STEPS)
    rows, (metrics, _) = run.read("completions"), run.read("metrics")
    assert {row["reward"] for row in rows if row["verdict"] == "ok"} <= {0.0, 0.5, 1.0}
    groups = {(row["step"], row["prompt_id"]): [] for row in rows}
    for row in rows:
        groups[row["step"], row["prompt_id"]].append(row["reward"])
    assert all(sum(rewards) == 1.0 for rewards in groups.values())
    assert metrics["judge/consistency"] == 1.0
    assert metrics["rewards/mean"] == pytest.approx(0.5)
    outcome = run.read("evaluations")[-1]
    assert outcome["eval/wins"] + outcome["eval/ties"] + outcome["eval/losses"] > 0
    assert outcome["eval/reward"] + outcome["eval/start_reward"] == pytest.approx(1.0)
    assert main(["ledger", "audit", str(run.path)]) == 0


@pytest.mark.slow
def test_a_panel_of_found_modes_and_criteria_trains_and_resumes(config_text, tmp_path):
    criteria = "{name: brief, instructions: Is it short?}"
    panel = (
        f"judge={{name: panel, judges: [{{name: scripted, mode: auto}}, {{name: scripted, criteria: [{criteria}]}}]}}"
    )
    whole = _train(config_text, tmp_path / "whole", panel, "steps=2", "evaluation=null", AFTER_STEPS)
    half = _train(config_text, tmp_path / "half", panel, "steps=1", "evaluation=null", AFTER_STEPS)
    resume(half.path, ["steps=2"])
    assert _untimed(half, "completions") == _untimed(whole, "completions")
    assert "judge/panel_spread" in whole.read("metrics")[0]
    assert main(["ledger", "audit", str(half.path)]) == 0
