"""A host's whole life: the run starts, is asked to leave, is started again by the service manager, and ends."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.nano import write_policy, write_prompts
from tests.tpu_scripts.stand_in import SCRIPTS

pytestmark = pytest.mark.slow
STEPS = 12


def _config(folder):
    settings = {
        "policy": {"path": str(write_policy(folder / "policy")), "weights": "random"},
        "data": {"path": str(write_prompts(folder / "prompts.jsonl"))},
        "judge": {"name": "scripted", "scorer": "overlap"},
        "steps": STEPS,
        "prompts_per_step": 8,
        "sampling": {"max_prompt_length": 16, "max_completion_length": 16},
        "mesh": {"devices": 1},
        "display": {"mode": "quiet"},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(settings))
    return path


def _run(folder):
    command = [sys.executable, str(SCRIPTS / "worker" / "run.py"), "--run-dir", str(folder / "run")]
    command += ["--config", str(folder / "config.yaml"), "--compile-cache", str(folder / "cache")]
    return subprocess.Popen(command, cwd=folder, env=os.environ | {"JAX_PLATFORMS": "cpu"})


def _steps_done(folder):
    metrics = folder / "run" / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def test_a_run_that_is_asked_to_leave_goes_on_when_it_is_started_again(tmp_path):
    _config(tmp_path)
    first = _run(tmp_path)
    while first.poll() is None and _steps_done(tmp_path) < 3:
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    assert first.wait(120) == 5
    left_at = _steps_done(tmp_path)
    assert 3 <= left_at < STEPS
    assert _run(tmp_path).wait(300) == 0
    assert _steps_done(tmp_path) == STEPS
    assert list((tmp_path / "cache").iterdir())
    assert _run(tmp_path).wait(300) == 0  # a finished run that is started once more, as by a reboot
