"""A run folder on a disk: plain files."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dar_jax.errors import SettingError
from dar_jax.runlog import log_file
from dar_jax.runlog.disk import disk_fault, run_folder_writes
from dar_jax.runlog.lock import NAME as LOCK
from dar_jax.runlog.lock import FolderLock
from dar_jax.runlog.rows import LOGS

_SCRATCH = ".config.yaml.tmp"
# By a run that was killed before it wrote its settings.
_LEFT_BEHIND = {LOCK, _SCRATCH}


class RunFolder:
    """The folder of a run; built by `create` or `reopen`."""

    def __init__(self, path: Path | str) -> None:
        self.path = path = Path(path)
        self.checkpoints = path / "checkpoints"
        self.ledger = self.ledger_of(0)
        self.policy = path / "policy"
        self._lock: FolderLock | None = None

    def ledger_of(self, process: int, name: str = "ledger") -> Path:
        """Return the ledger file of a process of the run: `ledger.sqlite`, `ledger-1.sqlite`, ..."""
        return self.path / f"{name}{f'-{process}' * (process > 0)}.sqlite"

    def other_ledgers(self, process: int, name: str = "ledger") -> list[Path]:
        """Return the ledger files of other processes."""
        return [path for path in sorted(self.path.glob(f"{name}*.sqlite")) if path != self.ledger_of(process, name)]

    @classmethod
    def check(cls, path: Path | str) -> None:
        """Check before anything is loaded that `create` will work, and leave nothing behind.

        Raises SettingError if something is there already, or nothing can be written.
        """
        path = Path(path)
        try:
            if path.exists() and not path.is_dir():
                raise SettingError(f"--run-dir {path}: that is a file; name a folder that is new or empty")
            if path.exists() and {each.name for each in path.iterdir()} - _LEFT_BEHIND:
                raise taken(path)
            _try_to_write(path)
        except OSError as error:
            raise unwritable(f"--run-dir {path}", error) from None

    @classmethod
    def create(cls, path: Path | str, config_yaml: str) -> "RunFolder":
        """Create a run folder that only its owner can read, and lock it. Raises SettingError as `check` does, or if
        another process uses it.
        """
        cls.check(path)
        folder = cls(path)
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.lock()
        try:
            if folder.is_run():  # created after the check
                raise taken(path)
            folder.write_config(config_yaml)
        except BaseException:
            folder.close()
            raise
        return folder

    @classmethod
    def reopen(cls, path: Path | str) -> "RunFolder":
        """Open the folder of a run to resume. Raises SettingError if there is nothing to resume."""
        folder = cls(path)
        if not folder.is_run():
            raise nothing_to_resume(path)
        return folder

    def lock(self) -> None:
        """Lock the folder against other processes until `close`. Raises SettingError if one has it."""
        try:
            self._lock = FolderLock(self.path)
        except OSError as error:
            raise unwritable(f"{self.path}", error) from None

    def close(self) -> None:
        """Unlock the folder."""
        if self._lock:
            self._lock.release()
        self._lock = None

    def is_run(self) -> bool:
        """Return whether this is a run folder: it has a config.yaml."""
        return (self.path / "config.yaml").is_file()

    def config_yaml(self) -> str:
        """Return the text of config.yaml. Raises SettingError if it is not UTF-8."""
        try:
            return (self.path / "config.yaml").read_text(encoding="utf-8")
        except UnicodeDecodeError as fault:
            raise SettingError(
                f"{self.path}/config.yaml: not UTF-8 ({fault.reason} at byte {fault.start}); put it back from a copy"
            ) from None

    def write_config(self, config_yaml: str) -> None:
        """Replace config.yaml by the settings of a resume. Raises DarError if it cannot be written."""
        with run_folder_writes(self.path, "config.yaml"):
            with open(self.path / _SCRATCH, "w", encoding="utf-8", opener=log_file.private) as file:
                file.write(config_yaml)
            (self.path / _SCRATCH).replace(self.path / "config.yaml")

    def contents(self) -> list[str]:
        """Return the names in the folder, folders with a slash, without SQLite's side files."""
        names = (each.name + "/" * each.is_dir() for each in self.path.iterdir())
        return sorted(name for name in names if not name.startswith(".") and not name.endswith(("-shm", "-wal")))

    @contextmanager
    def filling_policy(self) -> Iterator[Path]:
        """Yield the folder `policy` to write to. Raises DarError if it cannot be written."""
        with run_folder_writes(self.path, "policy/"):
            self.policy.mkdir(mode=0o700, exist_ok=True)
            yield self.policy

    def write(self, log: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to `<log>.jsonl`, each with a `step`. NaN and infinities become null.

        Raises DarError if it cannot be written.
        """
        with run_folder_writes(self.path, f"{log}.jsonl"):
            log_file.append(self.path / f"{log}.jsonl", rows)

    def flush(self) -> None:
        """Return at once: on a disk all rows are written."""

    def read(self, log: str) -> list[dict[str, Any]]:
        """Return the complete rows of `<log>.jsonl`. Raises SettingError if a line is damaged."""
        return log_file.read(self.path / f"{log}.jsonl")

    def forget_after(self, step: int, *, completions: int) -> None:
        """Drop rows of steps above `step` (completions: above their own limit) and a torn last line, which a resume
        makes again. Raises SettingError if another line is damaged, DarError if the disk cannot be written.
        """
        for name in LOGS:
            with run_folder_writes(self.path, f"{name}.jsonl"):
                log_file.keep_steps(self.path / f"{name}.jsonl", completions if name == "completions" else step)


def _try_to_write(path: Path) -> None:
    """Create the folder and a file in it, and remove both. Raises OSError."""
    made = [each for each in (path, *path.parents) if not each.exists()]
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path, buffering=0) as probe:
            probe.write(b"a run folder can be written here\n")
    finally:
        for each in made:
            with suppress(OSError):  # not made, or another process is at it too
                each.rmdir()


def unwritable(option: str, error: OSError) -> SettingError:
    """Return the error for a folder that cannot be written."""
    return SettingError(f"{option}: cannot be written: {disk_fault(error) or error}; or choose another folder")


def taken(where: Path | str) -> SettingError:
    """Return the error for a location that is taken."""
    return SettingError(
        f"--run-dir {where}: something is there already; resume it with --resume {where}, or choose another folder"
    )


def nothing_to_resume(where: Path | str) -> SettingError:
    """Return the error for a location without a run."""
    return SettingError(
        f"--resume {where}: nothing to resume there (no config.yaml);"
        " name the folder of a run, or start one with: dar-jax train CONFIG"
    )
