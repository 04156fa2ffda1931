"""The SQLite file of a ledger: its tables, how it is opened, and what is wrong where it cannot be.

    judges     id, description     wire, model, endpoint and protocol as JSON, once each
    answers    one row a key       see `ledger.py`
    checksums  key, crc32          of the row of `answers` as it was written; rows of older versions have none
    repeats    as `answers`        further answers to a key, paid for by runs that asked at the same time

Older versions of the package read and write `judges` and `answers` alone, and leave the other two as they are.
"""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from dar_jax.errors import SettingError

# How long SQLite waits for another process's transaction.
WAIT_S = 60.0
_APPLICATION_ID = 0x6461726A
_VERSION = 1
_HEADER = b"SQLite format 3\0"
_COLUMNS_TYPED = """
    judge TEXT NOT NULL REFERENCES judges (id), prompt TEXT NOT NULL,
    completion TEXT NOT NULL, request TEXT NOT NULL, answer TEXT NOT NULL, raw TEXT NOT NULL,
    served_model TEXT NOT NULL, attempts INTEGER NOT NULL, input_tokens INTEGER, cached_tokens INTEGER,
    output_tokens INTEGER, answered_at REAL NOT NULL
"""
_SCHEMA = (
    "CREATE TABLE judges (id TEXT PRIMARY KEY, description TEXT NOT NULL)",
    f"CREATE TABLE answers (key TEXT PRIMARY KEY, {_COLUMNS_TYPED})",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
)
_ADDED = (
    "CREATE TABLE IF NOT EXISTS checksums (key TEXT PRIMARY KEY, crc32 INTEGER NOT NULL) WITHOUT ROWID",
    f"CREATE TABLE IF NOT EXISTS repeats (key TEXT NOT NULL, {_COLUMNS_TYPED}, PRIMARY KEY (key, answered_at))",
)
_WAY_OUT = "restore it from a copy, or move it away and pay for its answers again"


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open a ledger, or create one that its owner alone can read. Raises SettingError where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _create_private(path)
        database = connected(path)
    except (OSError, sqlite3.Error) as error:
        raise SettingError(f"the ledger {path} cannot be opened: {error}; choose a place that can be written") from None
    try:
        _prepare(database, path)
    except (sqlite3.Error, OSError) as error:
        database.close()
        raise SettingError(explained(path, error)) from None
    except BaseException:
        database.close()
        raise
    return database


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a ledger that others may write; it can be used from any one thread. Raises SettingError."""
    database = None
    try:
        _check_header(path)
        database = connected(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        database.execute("SELECT count(*) FROM answers WHERE key = ''")
    except (sqlite3.Error, OSError) as error:
        if database:
            database.close()
        raise SettingError(explained(path, error)) from None
    return database


def connected(address: Path | str, *, uri: bool = False, check_same_thread: bool = True) -> sqlite3.Connection:
    """Connect, with texts that damage has made undecodable read as what no stored text is: surrogates."""
    database = sqlite3.connect(address, timeout=WAIT_S, uri=uri, check_same_thread=check_same_thread)
    database.text_factory = _decoded
    return database


def has_table(database: sqlite3.Connection, name: str) -> bool:
    """Whether a ledger, perhaps of an older version, has a table."""
    found = database.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?", (name,))
    return bool(found.fetchone()[0])


def explained(place: object, error: Exception) -> str:
    """Return the line for a ledger that cannot be used: what is wrong with it and the way out."""
    reason, way_out = fault_of(error)
    return f"the ledger {place} {reason}; {way_out}"


def fault_of(error: Exception) -> tuple[str, str]:
    """Return what is wrong with a ledger that raised this error, and the way out."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"is in use by another process, waited {WAIT_S:g} s", "wait until that has ended, then try again"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM) or isinstance(error, PermissionError):
        return f"is read-only or in a read-only folder ({error})", "make both writable, or choose another path"
    if code == sqlite3.SQLITE_NOTADB:
        return f"is not a ledger ({error})", "name a ledger's file, or choose another path"
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) or isinstance(error, OSError):
        return f"cannot be read or written: {error}", "see that its disk has room and can be written"
    return f"is damaged: {error}", _WAY_OUT


def check_file(database: sqlite3.Connection, path: Path) -> None:
    """Raise SettingError where a file does not begin as SQLite's do, or where its end is missing."""
    _check_header(path)
    # SQLite reads a last page that was cut off as if zeros followed. With a log beside the file it is still repaired.
    if not log_bytes(path) and path.stat().st_size % database.execute("PRAGMA page_size").fetchone()[0]:
        raise SettingError(f"the ledger {path} is damaged: its end is missing; {_WAY_OUT}")


def check_kind(database: sqlite3.Connection, path: Path) -> None:
    """Raise SettingError where the file is no ledger, or one of another version."""
    mark, version = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if mark != _APPLICATION_ID:
        raise SettingError(f"the ledger {path} is an SQLite file of something else; choose another path")
    if version != _VERSION:
        raise SettingError(f"the ledger {path} has version {version}, this package writes {_VERSION}; {_WAY_OUT}")


def log_bytes(path: Path) -> int:
    """Return the size of the write-ahead log beside a ledger: what is in it is not yet in the file."""
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _create_private(path: Path) -> None:
    # SQLite gives its log the permissions of the file.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(len(_HEADER))
    if start and start != _HEADER:
        raise SettingError(
            f"the ledger {path} is not a ledger: it does not begin as an SQLite file; name a ledger's file, or choose"
            " another place"
        )


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    check_file(database, path)
    database.execute("PRAGMA journal_mode = WAL")
    # FULL: a commit survives a power cut too; gathering commits pays for it.
    database.execute("PRAGMA synchronous = FULL")
    with database:
        database.execute("BEGIN IMMEDIATE")
        mark = database.execute("PRAGMA application_id").fetchone()[0]
        if not mark and not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in (*_SCHEMA, *_ADDED):
                database.execute(statement)
            return
    check_kind(database, path)
    found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise SettingError(f"the ledger {path} is damaged: {found}; {_WAY_OUT}")
    for statement in _ADDED:
        database.execute(statement)
