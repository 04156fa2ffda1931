"""A run folder on a disk: plain files."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dar_jax.errors import SettingError
from dar_jax.runlog.rows import LOGS, from_text, to_lines


class RunFolder:
    """Where one run writes. Make it with `create` or `reopen`."""

    def __init__(self, path: Path | str) -> None:
        self.path = path = Path(path)
        self.checkpoints = path / "checkpoints"
        self.ledger = self.ledger_of(0)
        self.policy = path / "policy"

    def ledger_of(self, process: int, name: str = "ledger") -> Path:
        """Name the file where a process of the run keeps its answers: `ledger.sqlite`, `ledger-1.sqlite`, ..."""
        return self.path / f"{name}{f'-{process}' * (process > 0)}.sqlite"

    def other_ledgers(self, process: int, name: str = "ledger") -> list[Path]:
        """List the files that other processes have left so far."""
        return [path for path in sorted(self.path.glob(f"{name}*.sqlite")) if path != self.ledger_of(process, name)]

    @classmethod
    def check(cls, path: Path | str) -> None:
        """Say before anything is loaded what `create` would; SettingError if something is there already."""
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise taken(path)

    @classmethod
    def create(cls, path: Path | str, config_yaml: str) -> "RunFolder":
        """Start a run folder; SettingError if something is there already."""
        cls.check(path)
        folder = cls(path)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.write_config(config_yaml)
        return folder

    @classmethod
    def reopen(cls, path: Path | str) -> "RunFolder":
        """Open the folder of a run that shall go on; SettingError where there is nothing to resume."""
        folder = cls(path)
        if not folder.is_run():
            raise nothing_to_resume(path)
        return folder

    def is_run(self) -> bool:
        """Tell a run's folder from any other: it has a config.yaml."""
        return (self.path / "config.yaml").is_file()

    def config_yaml(self) -> str:
        """The settings the run was started with."""
        return (self.path / "config.yaml").read_text()

    def write_config(self, config_yaml: str) -> None:
        """Replace the settings by those a resume goes on with."""
        scratch = self.path / "config.yaml.tmp"
        scratch.write_text(config_yaml)
        scratch.replace(self.path / "config.yaml")

    def contents(self) -> list[str]:
        """Name what lies in the folder, folders with a slash; SQLite's side files are part of the ledger."""
        names = (each.name + "/" * each.is_dir() for each in self.path.iterdir())
        return sorted(name for name in names if not name.startswith(".") and not name.endswith(("-shm", "-wal")))

    @contextmanager
    def filling_policy(self) -> Iterator[Path]:
        """Give the folder `policy` to fill."""
        self.policy.mkdir(exist_ok=True)
        yield self.policy

    def write(self, log: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to `<log>.jsonl`; each has a `step`. NaN and infinities are written as null."""
        with (self.path / f"{log}.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(to_lines(rows))

    def flush(self) -> None:
        """Return when all rows are written: here they are."""

    def read(self, log: str) -> list[dict[str, Any]]:
        """Return the complete rows of `<log>.jsonl`."""
        file = self.path / f"{log}.jsonl"
        return [row for _, row in from_text(file.read_text(encoding="utf-8"))] if file.exists() else []

    def forget_after(self, step: int, *, completions: int) -> None:
        """Drop rows of steps above `step` (of completions above their own limit), and a half-written last line:
        a resume makes them again.
        """
        for name in LOGS:
            file = self.path / f"{name}.jsonl"
            limit = completions if name == "completions" else step
            if file.exists():
                kept = [line for line, row in from_text(file.read_text(encoding="utf-8")) if row["step"] <= limit]
                scratch = file.with_suffix(".tmp")
                scratch.write_text("".join(kept), encoding="utf-8")
                scratch.replace(file)


def taken(where: Path | str) -> SettingError:
    """Refuse to start a run where something lies."""
    return SettingError(
        f"--run-dir {where}: something is there already; go on with it by --resume {where}, or name another folder"
    )


def nothing_to_resume(where: Path | str) -> SettingError:
    """Refuse to go on where no run lies."""
    return SettingError(
        f"--resume {where}: nothing to resume there (no config.yaml);"
        " name the folder of a run, or start one with: dar-jax train CONFIG"
    )
