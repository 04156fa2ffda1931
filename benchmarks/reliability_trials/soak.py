"""Thousands of steps with a judge that fails every tenth time: nothing grows, is made up or missing."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.runlog import RunFolder
from reliability_trials.outcomes import Outcome
from reliability_trials.workshop import HERE, Workshop, surroundings

_EVERY_S = 5.0
# Fewer samples are of the time in which programs are compiled.
_ENOUGH = 40
# Descriptors and threads of one save, of the judge's connections and of the sampling of /proc itself.
_SLACK = 24


def soak(workshop: Workshop, steps: int) -> Iterator[Outcome]:
    """Train for `steps` steps while one in ten judgements fails for good."""
    run = workshop.folder / "soak"
    with serve(ServerSettings(port=0, faults={"refusal": 0.1})) as server:
        arguments = [
            *workshop.start(run),
            f"judge.base_url={server.openai_url}",
            f"steps={steps}",
            "evaluation=null",
            "learning.updates_per_batch=1",
            "judge.max_failure_share=0.9",
            "judge.canary_every=0",
            "max_tied_steps=100000",
            "learning.optimizer.learning_rate=1e-4",
            "checkpoints={every_steps: 5, keep: 3}",
            "display.mode=quiet",
        ]
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, str(HERE / "child.py"), "", *arguments],
            env=surroundings(),
            stderr=subprocess.PIPE,
            text=True,
        )
        seen = _watched(process)
        seconds = time.perf_counter() - began
        stderr = process.stderr.read() if process.stderr else ""
        answered = server.answered.total()
    wrong = f"status {process.returncode}: {stderr.strip()[-300:]}" if process.returncode else ""
    wrong = wrong or _grown(seen) or _accounted(RunFolder(run), steps, answered)
    late = seen[-1] if seen else (0, 0, 0)
    figures = {"steps": steps, "steps/s": steps / seconds, "descriptors": late[0], "threads": late[1], "MB": late[2]}
    yield Outcome(kind="soak", case=f"{steps} steps", held=not wrong, detail=wrong, figures=figures)


def _watched(process: subprocess.Popen) -> list[tuple[int, int, int]]:
    """Return descriptors, threads and resident megabytes now and then, until the process ends."""
    seen = []
    while process.poll() is None:
        with contextlib.suppress(OSError):
            status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
            descriptors = len(os.listdir(f"/proc/{process.pid}/fd"))
            seen.append((descriptors, int(status["Threads"]), int(status["VmRSS"].split()[0]) // 1024))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_EVERY_S)
    return seen


def _grown(seen: list[tuple[int, int, int]]) -> str:
    """Return what has grown from the second quarter of the samples, when all is compiled, to the last."""
    if len(seen) < _ENOUGH:
        return ""
    quarter = len(seen) // 4
    early, late = seen[quarter : 2 * quarter], seen[-quarter:]
    for column, (name, slack) in enumerate((("descriptors", _SLACK), ("threads", _SLACK), ("MB", 200))):
        before, after = (max(sample[column] for sample in part) for part in (early, late))
        if after > before + slack:
            return f"{name} grew from {before} to {after}"
    return ""


def _accounted(run: RunFolder, steps: int, answered: int) -> str:
    metrics, rows = run.read("metrics"), run.read("completions")
    if [row["step"] for row in metrics] != list(range(1, steps + 1)):
        return f"{len(metrics)} steps are logged"
    if len(rows) != steps * 8:
        return f"{len(rows)} completions are logged, {steps * 8} expected"
    if made_up := [row for row in rows if (row["verdict"] == "ok") != (row["reward"] is not None)]:
        return f"{len(made_up)} rewards do not fit their verdicts"
    with contextlib.closing(sqlite3.connect(run.ledger)) as ledger:
        stored = ledger.execute("select count(*) from answers").fetchone()[0]
    if not stored == answered == metrics[-1]["judge/spent_annotations"]:
        return f"{answered} answered, {stored} in the ledger, {metrics[-1]['judge/spent_annotations']} in the log"
    if not any(row["verdict"] != "ok" for row in rows):
        return "no judgement failed"
    return ""
