"""The run folder: what a run leaves on disk for people and for its own resume.

config.yaml         the resolved settings, without secrets
metrics.jsonl       one line a step
completions.jsonl   one line a judged completion
evaluations.jsonl   one line an evaluation
ledger.sqlite       every answer paid for (the judge's)
checkpoints/        Orbax (checkpoints.run_state)
policy/             config.json and tokenizer: with a checkpoint, a whole model (policy.keep_words)
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dar_jax.errors import SettingError

_LOGS = ("metrics", "completions", "evaluations")


class RunFolder:
    """Where one run writes. Make it with `create` or `reopen`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.ledger = path / "ledger.sqlite"
        self.policy = path / "policy"

    @classmethod
    def create(cls, path: Path, config_yaml: str) -> "RunFolder":
        """Start a run folder; SettingError if something is there already."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise SettingError(
                f"--run-dir {path}: something is there already; go on with it by --resume {path},"
                " or name another folder"
            )
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.yaml").write_text(config_yaml)
        return cls(path)

    @classmethod
    def reopen(cls, path: Path) -> "RunFolder":
        """Open the folder of a run that shall go on; SettingError where there is nothing to resume."""
        folder = cls(path)
        if not (path / "config.yaml").is_file() or not folder.checkpoints.is_dir():
            raise SettingError(
                f"--resume {path}: nothing to resume there (no config.yaml with checkpoints);"
                " name the folder of a run, or start one with: dar-jax train CONFIG"
            )
        return folder

    def config_yaml(self) -> str:
        """The settings the run was started with."""
        return (self.path / "config.yaml").read_text()

    def write_config(self, config_yaml: str) -> None:
        """Replace the settings by those a resume goes on with."""
        (self.path / "config.yaml").write_text(config_yaml)

    def contents(self) -> list[str]:
        """Name what lies in the folder, folders with a slash; SQLite's side files are part of the ledger."""
        names = (each.name + "/" * each.is_dir() for each in self.path.iterdir())
        return sorted(name for name in names if not name.startswith(".") and not name.endswith(("-shm", "-wal")))

    def write(self, log: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to `<log>.jsonl`; each has a `step`. NaN and infinities are written as null."""
        lines = [json.dumps(_plain(row), ensure_ascii=False) + "\n" for row in rows]
        with (self.path / f"{log}.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(lines)

    def read(self, log: str) -> list[dict[str, Any]]:
        """Return the complete rows of `<log>.jsonl`."""
        file = self.path / f"{log}.jsonl"
        return [row for _, row in _rows(file)] if file.exists() else []

    def forget_after(self, step: int, *, completions: int) -> None:
        """Drop rows of steps above `step` (of completions above their own limit), and a half-written last line:
        a resume makes them again.
        """
        for name in _LOGS:
            file = self.path / f"{name}.jsonl"
            limit = completions if name == "completions" else step
            if file.exists():
                kept = [line for line, row in _rows(file) if row["step"] <= limit]
                scratch = file.with_suffix(".tmp")
                scratch.write_text("".join(kept), encoding="utf-8")
                scratch.replace(file)


def _rows(file: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            yield line, json.loads(line)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
