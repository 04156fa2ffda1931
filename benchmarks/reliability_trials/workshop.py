"""A small run to kill, damage and flood: its settings, its process, and the same run that nothing stopped."""

import functools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from dar_jax.runlog import RunFolder
from tests.nano import lasting, write_policy, write_prompts

HERE = Path(__file__).parent
LOGS = ("metrics", "completions", "evaluations")


class Workshop:
    """A folder with a policy, prompts and a config; `judge` is the base URL of the judge's server."""

    def __init__(self, folder: Path, judge: str) -> None:
        self.folder = folder
        policy, prompts = write_policy(folder / "policy"), write_prompts(folder / "prompts.jsonl")
        self.config = folder / "run.yaml"
        self.config.write_text(f"""
policy: {{path: {policy}, weights: random}}
data: {{path: {prompts}}}
judge: {{name: openai, model: scripted-overlap, base_url: "{judge}", concurrency: 4}}
steps: 4
prompts_per_step: 4
group_size: 2
sampling: {{max_prompt_length: 16, max_completion_length: 8}}
learning: {{compute_dtype: float32, optimizer: {{learning_rate: 1e-2, warmup_updates: 1}}}}
checkpoints: {{every_steps: 1, within_step: true, keep: 3}}
evaluation: {{data: {{path: {prompts}}}, prompts: 4, every_steps: 1}}
display: {{mode: plain, samples_every: 0}}
""")

    def start(self, run: Path) -> list[str]:
        """Return the arguments that start a run, or go on with it where it has begun."""
        begun = (run / "config.yaml").exists()
        return ["train", "--resume", str(run)] if begun else ["train", str(self.config), "--run-dir", str(run)]

    def run(self, arguments: Sequence[str], *, at: str = "", timeout_s: float = 600) -> subprocess.CompletedProcess:
        """Run `dar-jax` in a process of its own, which does to itself what `at` asks for (see child.py)."""
        return subprocess.run(
            [sys.executable, str(HERE / "child.py"), at, *arguments],
            env=surroundings(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    @functools.cached_property
    def unharmed(self) -> RunFolder:
        """The run that nothing stopped."""
        run = self.folder / "unharmed"
        done = self.run(self.start(run))
        if done.returncode:
            raise RuntimeError(f"the run that nothing stops ended with {done.returncode}: {done.stderr}")
        return RunFolder(run)


def surroundings(devices: int = 1) -> dict[str, str]:
    """Return the environment of a run's process; programs compiled by one are kept for the next."""
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.values["jax_compilation_cache_dir"]),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "PYTHONPATH": str(HERE.parents[1]),
    }


def difference(run: RunFolder, other: RunFolder, logs: Sequence[str] = LOGS) -> str:
    """Return where the logs of two runs differ, empty where they are equal to the bit."""
    for log in logs:
        rows, expected = lasting(run.read(log)), lasting(other.read(log))
        if len(rows) != len(expected):
            return f"{log}: {len(rows)} rows, {len(expected)} expected"
        for number, (row, wanted) in enumerate(zip(rows, expected, strict=True)):
            if row != wanted:
                keys = sorted(key for key in row.keys() | wanted.keys() if row.get(key) != wanted.get(key))
                return f"{log}: row {number} differs in {', '.join(keys[:5])}"
    return ""


def plain_ending(status: int, stderr: str) -> str:
    """Return what is wrong with how a command ended: nothing, where it is done or explains itself in a few lines."""
    if "Traceback" in stderr:
        return f"status {status} with a traceback: {stderr.strip().splitlines()[-1][:200]}"
    if status > 0 and not stderr.strip():
        return f"status {status} without a message"
    return ""
