"""Run cells as processes of `dar-jax train`, some at once. Finished runs are skipped, unfinished ones resumed; a
failure is reported and stops no other run.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from dar_jax.config.config_file import parse_config, to_yaml
from dar_jax.config.run_config import differences
from dar_jax.errors import DarError, Interrupted, SettingError
from dar_jax.experiments.cells import Cell
from dar_jax.runlog import RunFolder
from dar_jax.terminal.interrupts import Interrupts

_LOOK_EVERY_S = 0.2


class _Under(NamedTuple):
    cell: Cell
    process: subprocess.Popen[bytes]
    began: float


def check_unchanged(cells: Sequence[Cell], folder: Path) -> None:
    """Raise SettingError if the run in a cell's folder has other settings."""
    for cell in cells:
        run = RunFolder(folder / cell.place)
        if not run.is_run():
            continue
        before = parse_config(run.config_yaml(), where=f"{run.path}/config.yaml")
        changed = differences(before, cell.config)
        if before.steps != cell.config.steps:
            changed.append(f"steps: {before.steps} -> {cell.config.steps}")
        if changed:
            raise SettingError(
                f"--output {folder}: {cell.place} was begun with other settings ({'; '.join(changed)}); name another"
                " folder, or go back to what it was"
            )


def is_finished(cell: Cell, folder: Path) -> bool:
    """Return whether a cell's run has its last checkpoint, which is saved after everything else."""
    last = cell.config.steps * cell.config.learning.updates_per_batch
    return (folder / cell.place / "checkpoints" / str(last)).is_dir()


class Running:
    """Running cells, each a process with its share of the devices."""

    def __init__(self, cells: Sequence[Cell], folder: Path, shares: Sequence[Mapping[str, str]]) -> None:
        self._folder, self._shares, self._count = folder, shares, len(cells)
        self._waiting = deque(cell for cell in cells if not is_finished(cell, folder))
        self._under: dict[int, _Under] = {}
        self._done, self._failed, self._asked = len(cells) - len(self._waiting), 0, False

    def run(self, say: Callable[[str], None]) -> int:
        """Run the unfinished cells; return how many failed.

        Raises Interrupted at a signal, after the running ones have saved and ended.
        """
        interrupts = Interrupts()
        try:
            with interrupts.caught():
                while self._under or (self._waiting and not interrupts.received):
                    self._ask_to_leave() if interrupts.received else self._fill()
                    time.sleep(_LOOK_EVERY_S)
                    self._look(say)
        finally:
            self._ask_to_leave()
        if interrupts.received:
            raise Interrupted(f"{interrupts.received.name} received; the runs are saved, and the same command goes on")
        return self._failed

    def _fill(self) -> None:
        for slot, environment in enumerate(self._shares):
            if slot not in self._under and self._waiting:
                cell = self._waiting.popleft()
                self._under[slot] = _Under(cell, _start(cell, self._folder, environment), time.monotonic())

    def _look(self, say: Callable[[str], None]) -> None:
        for slot, (cell, process, began) in list(self._under.items()):
            if (status := process.poll()) is None:
                continue
            del self._under[slot]
            self._done, self._failed = self._done + (status == 0), self._failed + (status != 0)
            how = _told(self._folder / cell.place, status, time.monotonic() - began)
            say(f"{self._done}/{self._count}  {cell.place}: {how}")

    def _ask_to_leave(self) -> None:
        """Signal the runs to save and end, once: a second signal would end them without saving."""
        if not self._asked:
            for each in self._under.values():
                each.process.terminate()
        self._asked = True


def _start(cell: Cell, folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start or resume a cell's run, whose output is appended to a log beside its folder."""
    path = folder / cell.place
    path.parent.mkdir(parents=True, exist_ok=True)
    asked = ["--resume", str(path), f"ledger={json.dumps(str(cell.config.ledger))}"]
    if not RunFolder(path).is_run():
        config = path.with_name(f"{path.name}.yaml")
        config.write_text(to_yaml(cell.config), encoding="utf-8")
        asked = [str(config), "--run-dir", str(path)]
    # All of them compile the same few programs.
    compiled = str(folder.absolute() / "compiled")
    shared = {"JAX_COMPILATION_CACHE_DIR": compiled, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"}
    with _log(path).open("ab") as log:
        _hold(log, path)
        return subprocess.Popen(
            [sys.executable, "-m", "dar_jax", "train", *asked],
            env={**shared, **os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C comes through us, and once
        )


def _hold(log: BinaryIO, path: Path) -> None:
    """Lock the log for as long as the run lives, which may be longer than this process."""
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        told = f"{path}: its run is still under way, begun by another command; wait for it, or stop it"
        raise DarError(told) from None


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}.log")


def _told(path: Path, status: int, seconds: float) -> str:
    if status == 0:
        return f"done in {seconds:,.0f} s"
    lines = _log(path).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"failed with status {status}; {_log(path)} ends: {lines[-1] if lines else ''}"
