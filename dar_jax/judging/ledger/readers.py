"""Ledgers as they lie, for those who only read them: a file, the files of a run folder, the segments under a URL.

Nothing is changed by it, and a run may write meanwhile: a reader sees what was safe on disk when it began.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dar_jax.errors import DarError, SettingError
from dar_jax.judging.ledger.ledger_file import check_file, check_kind, connected, explained, has_table, log_bytes
from dar_jax.judging.ledger.ledger_rows import COLUMNS, checksum
from dar_jax.judging.ledger.segments import Segments, StoredAnswer
from dar_jax.runlog.local import RunFolder
from dar_jax.runlog.objects import HASTY, Objects
from dar_jax.settings.fields import File
from dar_jax.settings.yaml_settings import merged
from dar_jax.settings.yaml_text import read_text

_ROWS = f"SELECT coalesce(description, ''), {COLUMNS} FROM {{table}} LEFT JOIN judges ON judge = id"
_MOST_FAULTS = 10


@dataclass(frozen=True)
class LedgerFile:
    """A ledger in a file."""

    path: Path

    def rows(self) -> Iterator[StoredAnswer]:
        """Read the answers in the order filed, then further ones to the same questions; a judge that the ledger does
        not know has no description.

        Raises SettingError where this is no whole ledger.
        """
        with self._opened() as database:
            for table in ("answers", "repeats"):
                if has_table(database, table):
                    rows = database.execute(f"{_ROWS.format(table=table)} ORDER BY {table}.rowid")
                    yield from map(StoredAnswer._make, rows)

    def whole_rows(self) -> Iterator[StoredAnswer]:
        """Read the rows but those that are damaged."""
        damaged = self.damaged()
        yield from (row for row in self.rows() if row.key not in damaged)

    def damaged(self) -> set[str]:
        """Return the keys of the answers whose checksum differs. Raises SettingError as `rows` does."""
        with self._opened() as database:
            if not has_table(database, "checksums"):
                return set()
            rows = database.execute(f"SELECT crc32, '', {COLUMNS} FROM answers JOIN checksums USING (key)")
            return {row[2] for row in rows if row[0] != checksum(StoredAnswer._make(row[1:]))}

    def faults(self) -> list[str]:
        """Check the whole file, by SQLite, and the checksum of every answer; return what is wrong with it."""
        try:
            with self._opened() as database:
                found = [row[0] for row in database.execute(f"PRAGMA quick_check({_MOST_FAULTS})")]
            structure = [f"{self.path}: {' '.join(fault.split())}" for fault in found if fault != "ok"]
            return [*structure, *self._faults_of_answers()]
        except SettingError as fault:
            return [str(fault)]

    def _faults_of_answers(self) -> list[str]:
        damaged, lost = self.damaged(), self._lost()
        found = [f"{self.path}: answer {key[:12]} is damaged: its checksum differs" for key in sorted(damaged)]
        if len(found) > _MOST_FAULTS:
            found = [*found[:_MOST_FAULTS], f"{self.path}: {len(damaged) - _MOST_FAULTS:,} more answers are damaged"]
        return [*found, *([f"{self.path}: {lost:,} answers were filed and are gone"] if lost else [])]

    def _lost(self) -> int:
        """Count the checksums without an answer."""
        with self._opened() as database:
            if not has_table(database, "checksums"):
                return 0
            lost = "SELECT count(*) FROM checksums WHERE key NOT IN (SELECT key FROM answers)"
            return int(database.execute(lost).fetchone()[0])

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        # Without a log nobody has the file open, and SQLite need not make one to read it.
        kind = "mode=ro" if log_bytes(self.path) or self._shared() else "immutable=1"
        try:
            with closing(connected(f"{self.path.absolute().as_uri()}?{kind}", uri=True)) as database:
                check_file(database, self.path)
                check_kind(database, self.path)
                yield database
        except (sqlite3.Error, OSError) as fault:
            raise SettingError(explained(self.path, fault)) from None

    def _shared(self) -> bool:
        return self.path.with_name(f"{self.path.name}-shm").exists()


@dataclass(frozen=True)
class LedgerSegments:
    """The ledger of a run under a URL."""

    url: str

    def rows(self) -> Iterator[StoredAnswer]:
        """Read the answers of all processes. Raises SettingError where a segment is damaged."""
        known: dict[str, str] = {}
        for rows in Segments(f"{self.url}/ledger/0").read():
            known |= {row.judge: row.description for row in rows if row.description}
            yield from (row._replace(description=known.get(row.judge, "")) for row in rows)

    def whole_rows(self) -> Iterator[StoredAnswer]:
        """Read the answers: the store keeps checksums of its own."""
        return self.rows()

    def damaged(self) -> set[str]:
        """Return nothing: a damaged segment cannot be read at all."""
        return set()

    def faults(self) -> list[str]:
        """Return nothing: each segment is checked when it is read."""
        return []


Stored = LedgerFile | LedgerSegments


def find(place: Path | str) -> list[Stored]:
    """Find the ledgers of a file, a run folder or a run's URL. Raises SettingError where there is none."""
    if "://" in str(place):
        found: list[Stored] = _under_url(str(place).rstrip("/"))
    elif (path := Path(place)).is_dir():
        folder = RunFolder(_home(path))
        files = [folder.ledger_of(0), *folder.other_ledgers(0)]
        found = [LedgerFile(file) for file in files if file.is_file()]
    else:
        found = [LedgerFile(path)] if path.is_file() else []
    if not found:
        raise SettingError(f"{place}: there is no ledger; name a ledger's file, a run folder or a run's URL")
    return found


def _home(path: Path) -> Path:
    """Return where a run keeps its answers: in its own folder, or in one that it shares with others."""
    folder = RunFolder(path)
    config = folder.path / "config.yaml"
    if not folder.is_run():
        return path
    shared = merged(read_text(config), where=str(config), of={"ledger": File | None}).get("ledger")
    return Path(shared) if shared else path


def _under_url(url: str) -> list[Stored]:
    try:
        return [LedgerSegments(url)] if Objects(url, HASTY).under("ledger") else []
    except DarError as fault:  # no finding of an audit
        raise SettingError(str(fault)) from None


def distinct(rows: Iterable[StoredAnswer], by: Callable[[StoredAnswer], object]) -> Iterator[StoredAnswer]:
    """Leave of answers that are the same `by` something the first."""
    seen: set[object] = set()
    for row in rows:
        if (mark := by(row)) not in seen:
            seen.add(mark)
            yield row


def key(row: StoredAnswer) -> str:
    """Return a row's key: answers to one question count as the same."""
    return row.key


def billing(row: StoredAnswer) -> tuple[str, float]:
    """Return an answer's identity: only copies count as the same, as two hosts that ask the same question both pay."""
    return row.key, row.answered_at
