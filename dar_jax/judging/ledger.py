"""Every answer that costs money, on disk before it is used. A question asked before is free, for ever.

SQLite in WAL mode; one writer thread commits what has gathered in one synchronous transaction. Two runs on one
machine may share a ledger; SQLite's WAL does not work over network file systems. Tables:

    judges   id, description       wire, model, endpoint and protocol as JSON, once each
    answers  key                   hash of the judge, the question and the sampling parameters
             judge, prompt, completion, request, answer, raw, served_model, attempts,
             input_tokens, cached_tokens, output_tokens (NULL: the server did not say), answered_at (Unix seconds)
"""

import asyncio
import dataclasses
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from dar_jax.chat.wire import Answer, Request
from dar_jax.errors import DarError, SettingError

_APPLICATION_ID = 0x6461726A
_VERSION = 1
_SCHEMA = """
CREATE TABLE judges (id TEXT PRIMARY KEY, description TEXT NOT NULL);
CREATE TABLE answers (
    key TEXT PRIMARY KEY, judge TEXT NOT NULL REFERENCES judges (id), prompt TEXT NOT NULL,
    completion TEXT NOT NULL, request TEXT NOT NULL, answer TEXT NOT NULL, raw TEXT NOT NULL,
    served_model TEXT NOT NULL, attempts INTEGER NOT NULL, input_tokens INTEGER, cached_tokens INTEGER,
    output_tokens INTEGER, answered_at REAL NOT NULL
);
"""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the ledger files an answer under. `judge` is the wire's identity with the protocol's; JSON."""

    judge: Mapping[str, object]
    request: Request
    prompt: str
    completion: str

    @property
    def key(self) -> str:
        """Hash all that decides the answer."""
        return _hash({"judge": self.judge, "request": asdict(self.request)})


class Ledger:
    """An open ledger. Raises SettingError on a file that is no whole ledger, DarError when a write fails.

    What it does not hold is looked for in `others`, which it never writes: the ledgers of a run's other hosts.
    """

    def __init__(self, path: Path, others: Sequence[Path] = ()) -> None:
        self._path, self._other_paths = path, others
        self._waiting: list[tuple[tuple[object, ...], str, Future[None]]] = []
        self._lock = threading.Lock()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        try:
            self._database = self._writer.submit(_open, path).result()
            self._others = self._writer.submit(_open_others, others).result()
        except BaseException:
            self._writer.shutdown()
            raise

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def get(self, key: str) -> Answer | None:
        """Return the answer filed under a key."""
        return await asyncio.wrap_future(self._writer.submit(self._get, key))

    async def put(self, question: Question, answer: Answer, attempts: int) -> None:
        """File an answer; return when it is safe on disk. An answer already there stays."""
        written: Future[None] = Future()
        # A caller that is cancelled must not take the row, or its neighbours' futures, with it.
        written.set_running_or_notify_cancel()
        judge, row = json.dumps(question.judge, sort_keys=True), _row(question, answer, attempts)
        with self._lock:
            self._waiting.append((row, judge, written))
        self._writer.submit(self._commit)
        await asyncio.wrap_future(written)

    def close(self) -> None:
        """Write what waits, and close the file. Closing twice does nothing."""
        try:
            self._writer.submit(self._close)
        except RuntimeError:  # already shut down
            return
        self._writer.shutdown()

    def _get(self, key: str) -> Answer | None:
        try:
            for database in (self._database, *self._others):
                row = database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    return Answer.from_json(row[0])
        except (sqlite3.Error, ValueError) as error:
            where = ", ".join(map(str, (self._path, *self._other_paths)))
            raise DarError(f"the ledger {where} cannot be read: {error}; {_WAY_OUT}") from None
        return None

    def _commit(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, []
        if not batch:
            return
        try:
            with self._database:
                judges = {(str(row[1]), judge) for row, judge, _ in batch}
                self._database.executemany("INSERT OR IGNORE INTO judges VALUES (?, ?)", judges)
                marks = ", ".join("?" * len(batch[0][0]))
                rows = [row for row, _, _ in batch]
                self._database.executemany(f"INSERT OR IGNORE INTO answers VALUES ({marks})", rows)
        except (sqlite3.Error, ValueError) as error:
            failure = DarError(f"the ledger {self._path} cannot be written: {error}; no unrecorded answer is used")
            for _, _, written in batch:
                written.set_exception(failure)
            return
        for _, _, written in batch:
            written.set_result(None)

    def _close(self) -> None:
        self._commit()
        for database in (self._database, *self._others):
            database.close()


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, timeout=60.0)
    except (OSError, sqlite3.Error) as error:
        raise SettingError(f"the ledger {path} cannot be opened: {error}; choose a place that can be written") from None
    try:
        _prepare(database, path)
    except sqlite3.DatabaseError as error:
        database.close()
        raise SettingError(f"the ledger {path} is damaged or no ledger: {error}; {_WAY_OUT}") from None
    except BaseException:
        database.close()
        raise
    return database


def _open_others(paths: Sequence[Path]) -> list[sqlite3.Connection]:
    opened: list[sqlite3.Connection] = []
    for path in paths:
        try:
            opened.append(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60.0))
            opened[-1].execute("SELECT count(*) FROM answers WHERE key = ''")
        except sqlite3.Error as error:
            for database in opened:
                database.close()
            raise SettingError(f"the ledger {path} cannot be read: {error}; {_WAY_OUT}") from None
    return opened


_WAY_OUT = "restore it from a copy, or move it away and pay for its answers again"


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    # SQLite reads a last page that was cut off as if zeros followed. With a log beside the file it is still repaired.
    if not _log(path) and path.stat().st_size % database.execute("PRAGMA page_size").fetchone()[0]:
        raise SettingError(f"the ledger {path} is damaged: its end is missing; {_WAY_OUT}")
    database.execute("PRAGMA journal_mode = WAL")
    # FULL: a commit survives a power cut too; gathering commits pays for it.
    database.execute("PRAGMA synchronous = FULL")
    with database:
        database.execute("BEGIN IMMEDIATE")
        mark, version = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if not mark and not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in (*_SCHEMA.split(";")[:-1], f"PRAGMA application_id = {_APPLICATION_ID}"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {_VERSION}")
            return
    if mark != _APPLICATION_ID:
        raise SettingError(f"the ledger {path} is an SQLite file of something else; choose another place")
    if version != _VERSION:
        raise SettingError(f"the ledger {path} has version {version}, this package writes {_VERSION}; {_WAY_OUT}")
    found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise SettingError(f"the ledger {path} is damaged: {found}; {_WAY_OUT}")


def _log(path: Path) -> int:
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0


def _row(question: Question, answer: Answer, attempts: int) -> tuple[object, ...]:
    usage, request = answer.usage, asdict(question.request)
    # The messages are the rubric, kept with the judge, around texts that have their own columns.
    del request["messages"]
    tokens = (usage.input_tokens, usage.cached_tokens, usage.output_tokens) if usage else (None, None, None)
    return (
        question.key,
        _hash(question.judge),
        _storable(question.prompt),
        _storable(question.completion),
        json.dumps(request),
        dataclasses.replace(answer, raw="").to_json(),
        _storable(answer.raw),
        answer.served_model,
        attempts,
        *tokens,
        time.time(),
    )


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
