"""A run folder under a URL: objects, each written once.

    config.yaml              as in a folder
    owner.json               the owner (owner.py)
    metrics/00000012.jsonl   the rows of step 12, and so for the other logs
    ledger/0/                paid answers of process 0 (judging/ledger/segments.py)
    checkpoints/, policy/    as in a folder

Rows are written in the background, so that no step waits for the store; a failure is raised by the next `write` or
`flush`. `flush` comes before a checkpoint, since a step in a checkpoint is not made again.
"""

import atexit
import functools
import io
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import uuid4

from dar_jax.errors import DarError, SettingError
from dar_jax.runlog import bucket
from dar_jax.runlog.local import nothing_to_resume, taken
from dar_jax.runlog.objects import HASTY, Objects, Writing, local_path
from dar_jax.runlog.owner import Owner
from dar_jax.runlog.rows import LOGS, from_lines, to_bytes


class RemoteFolder:
    """The folder of a run under a URL; built by `create` or `reopen`."""

    def __init__(self, url: Path | str) -> None:
        self.path = str(url).rstrip("/")
        self._objects = Objects(self.path)
        local = local_path(self.path)
        self.checkpoints = Path(local) / "checkpoints" if local else f"{self.path}/checkpoints"
        self.ledger = self.ledger_of(0)
        self._owner = Owner(self._objects)
        self._under_way: list[Writing] = []

    def ledger_of(self, process: int, name: str = "ledger") -> str:
        """Return the ledger of a process of the run; opened, it reads those of all."""
        return f"{self.path}/{name}/{process}"

    def other_ledgers(self, process: int, name: str = "ledger") -> list[Path]:
        """Return []: an opened ledger reads those of all processes."""
        return []

    @classmethod
    def check(cls, url: Path | str) -> None:
        """Check before anything is loaded that `create` and checkpoints will work: nothing is there, and an object can
        be written and deleted. Raises SettingError.
        """
        _check_writable(str(url))
        with _early():
            if _visible(Objects(str(url), HASTY).names()):
                raise taken(url)

    @classmethod
    def create(cls, url: Path | str, config_yaml: str) -> "RemoteFolder":
        """Create a run folder. Raises SettingError if something is there already."""
        folder = cls(url)
        if _visible(folder._objects.names()):
            raise taken(url)
        folder._objects.create("config.yaml", config_yaml.encode()).finish()
        folder._owner.look()
        folder._owner.take()
        return folder

    @classmethod
    def reopen(cls, url: Path | str) -> "RemoteFolder":
        """Open the folder of a run to resume. Raises SettingError if there is nothing to resume, or it cannot be
        written.
        """
        _check_writable(str(url))
        folder = cls(url)
        if not folder.is_run():
            raise nothing_to_resume(url)
        folder._owner.look()
        return folder

    def lock(self) -> None:
        """No-op: owner.json has the owner."""

    def close(self) -> None:
        """No-op, as `lock`."""

    def is_run(self) -> bool:
        """Return whether this is a run folder: it has a config.yaml."""
        bucket.prepare(self.path)
        return self._objects.read("config.yaml")[0] is not None

    def config_yaml(self) -> str:
        """Return the text of config.yaml."""
        content, _ = self._objects.read("config.yaml")
        if content is None:
            raise SettingError(f"{self.path}/config.yaml: there is none; name the folder of a run")
        return content.decode()

    def write_config(self, config_yaml: str) -> None:
        """Replace config.yaml by the settings of a resume."""
        _, generation = self._objects.read("config.yaml")
        self._objects.replace("config.yaml", config_yaml.encode(), generation).finish()

    def contents(self) -> list[str]:
        """Return the names in the folder, folders with a slash."""
        tops = {first + slash for first, slash, _ in (name.partition("/") for name in self._objects.names())}
        return _visible(sorted(tops))

    @contextmanager
    def filling_policy(self) -> Iterator[Path]:
        """Yield a local folder, whose content becomes `policy`."""
        with tempfile.TemporaryDirectory(prefix="dar-jax-policy-") as name:
            folder = Path(name)
            yield folder
            files = [each for each in folder.rglob("*") if each.is_file()]
            names = [f"policy/{each.relative_to(folder).as_posix()}" for each in files]
            under_way = [self._objects.create(n, file.read_bytes()) for n, file in zip(names, files, strict=True)]
            for writing in under_way:
                writing.finish()

    @functools.cached_property
    def policy(self) -> Path:
        """A local copy of `policy`, downloaded once; it exists as long as the process."""
        folder = Path(tempfile.mkdtemp(prefix="dar-jax-policy-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for name, content in self._objects.read_each(self._objects.under("policy")):
            file = folder / name.removeprefix("policy/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return folder

    def write(self, log: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Start writing rows, each with a `step`, all rows of a step at once. NaN and infinities become null."""
        self._settle(wait=False)
        for step, of_step in groupby(rows, key=lambda row: row["step"]):
            content = to_bytes(of_step)
            self._under_way.append(self._objects.create(_segment(log, step), content))

    def flush(self) -> None:
        """Wait until all rows are durable. Raises DarError if one failed, or another run has taken over."""
        self._settle(wait=True)
        self._owner.check()

    def read(self, log: str) -> list[dict[str, Any]]:
        """Return the rows of a log."""
        self._settle(wait=True)
        segments = self._objects.read_each(self._objects.under(log))
        return [
            line.row for name, content in segments for line in from_lines(io.BytesIO(content), f"{self.path}/{name}")
        ]

    def forget_after(self, step: int, *, completions: int) -> None:
        """Become the owner, then drop rows of steps above `step` (completions: above their own limit), which a resume
        makes again.
        """
        self._owner.take()
        for log in LOGS:
            limit = completions if log == "completions" else step
            self._objects.delete(self._objects.names(_segment(log, limit + 1), f"{log}0"))

    def _settle(self, *, wait: bool) -> None:
        under_way, self._under_way = self._under_way, []
        for writing in under_way:
            if wait or writing.done():
                writing.finish()
            else:
                self._under_way.append(writing)


def _segment(log: str, step: int) -> str:
    return f"{log}/{step:08}.jsonl"


def _visible(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.startswith(".")]


def _check_writable(url: str) -> None:
    bucket.prepare(url)
    objects, probe = Objects(url, HASTY), f".write-check-{uuid4().hex}"
    with _early():
        objects.create(probe, b"a run folder can be written here\n").finish()
        objects.delete([probe])
    bucket.check(url)


@contextmanager
def _early() -> Iterator[None]:
    """Raise failures before a run starts as SettingErrors."""
    try:
        yield
    except DarError as fault:
        raise SettingError(str(fault)) from None
