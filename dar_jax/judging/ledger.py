"""Every answer that costs money, on disk before it is used. A question asked before is free, for ever.

SQLite in WAL mode; one writer thread commits what has gathered in one synchronous transaction. Two runs on one
machine may share a ledger; SQLite's WAL does not work over network file systems. Under a URL the rows lie as segments
(segments.py), written before they are committed; SQLite holds a copy of them while the ledger is open. Tables:

    judges   id, description       wire, model, endpoint and protocol as JSON, once each
    answers  key                   hash of the judge, the question and the sampling parameters
             judge, prompt, completion, request, answer, raw, served_model, attempts,
             input_tokens, cached_tokens, output_tokens (NULL: the server did not say), answered_at (Unix seconds)

`request` is JSON, with the size of its messages (`bytes`) in their place, and the occasion of one asked anew.
"""

import dataclasses
import functools
import hashlib
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from dar_jax.chat.wire import Answer, Request
from dar_jax.errors import DarError, SettingError
from dar_jax.judging.gathering import Gathering
from dar_jax.judging.segments import Row, Segments
from dar_jax.judging.spent import Paid, Spent, payee, size, total

T = TypeVar("T")
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
    """What the ledger files an answer under. `judge` is the wire's identity with the protocol's; JSON.

    The same question on another `occasion` is another one.
    """

    judge: Mapping[str, object]
    request: Request
    prompt: str
    completion: str
    occasion: str = ""

    @functools.cached_property
    def key(self) -> str:
        """Hash all that decides the answer."""
        decides = {"judge": self.judge, "request": self.request.deciding()}
        return _hash(decides | ({"occasion": self.occasion} if self.occasion else {}))


class Ledger:
    """An open ledger: a file, or under a URL segments. Raises SettingError where that is no whole ledger, DarError when
    a write fails.

    What it does not hold is looked for in `others`, which it never writes: the ledgers of a run's other hosts. Segments
    are those of all hosts anyway.
    """

    def __init__(self, place: Path | str, others: Sequence[Path] = ()) -> None:
        self._place, self._other_places = place, others
        self._closed = False
        self._segments: Segments | None = None
        with ExitStack() as opened:
            self._writer = opened.enter_context(ThreadPoolExecutor(1, thread_name_prefix="ledger"))
            if "://" in str(place):
                self._segments = Segments(str(place))
                scratch = opened.enter_context(tempfile.TemporaryDirectory(prefix="dar-jax-ledger-"))
                place = Path(scratch) / "copy.sqlite"
            self._database = self._on_writer(_open, Path(place))
            opened.callback(self._on_writer, self._database.close)
            self._others = self._on_writer(_open_others, others)
            for database in self._others:
                opened.callback(self._on_writer, database.close)
            if self._segments:
                self._spent = self._on_writer(self._copy, self._segments)
            else:
                self._spent = self._on_writer(self._add_up)
            self._opened = opened.pop_all()
        self._look, self._file = Gathering(self._writer, self._get), Gathering(self._writer, self._commit)

    @property
    def spent(self) -> Spent:
        """What the answers cost that it held when it was opened, those of the others too."""
        return self._spent

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def get(self, key: str) -> Answer | None:
        """Return the answer filed under a key."""
        return await self._look(key)

    async def put(self, question: Question, answer: Answer, attempts: int) -> None:
        """File an answer; return when it is safe on disk. An answer already there stays."""
        await self._file(_row(question, answer, attempts))

    def add(self, rows: Sequence[Row]) -> int:
        """File another ledger's answers, safe on disk at the return. Return how many came: those there already stay."""
        return self._on_writer(self._add, rows)

    def close(self) -> None:
        """Write what waits, and close the file. Closing twice does nothing."""
        if not self._closed:
            self._closed = True
            self._opened.close()

    def _on_writer(self, function: Callable[..., T], *arguments: object) -> T:
        return self._writer.submit(function, *arguments).result()

    def _get(self, keys: Sequence[str]) -> list[Answer | None]:
        try:
            return [self._answer(key) for key in keys]
        except (sqlite3.Error, ValueError) as error:
            raise DarError(self._unreadable(error)) from None

    def _answer(self, key: str) -> Answer | None:
        for database in (self._database, *self._others):
            row = database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
            if row is not None:
                return Answer.from_json(row[0])
        return None

    def _add_up(self) -> Spent:
        try:
            return total(_payments((self._database, *self._others)))
        except (sqlite3.Error, ValueError) as error:
            raise SettingError(self._unreadable(error)) from None

    def _unreadable(self, error: Exception) -> str:
        where = ", ".join(map(str, (self._place, *self._other_places)))
        return f"the ledger {where} cannot be read: {error}; {_WAY_OUT}"

    def _commit(self, rows: Sequence[Row]) -> list[None]:
        try:
            if self._segments:
                self._segments.write(rows)
            self._insert(rows)
        except (sqlite3.Error, ValueError, DarError) as error:
            told = f"the ledger {self._place} cannot be written: {error}; no unrecorded answer is used"
            raise DarError(told) from None
        return [None] * len(rows)

    def _add(self, rows: Sequence[Row]) -> int:
        try:
            return self._insert(rows)
        except sqlite3.Error as error:
            raise DarError(f"the ledger {self._place} cannot be written: {error}") from None

    def _insert(self, rows: Sequence[Row]) -> int:
        with self._database:
            judges = {(row.judge, row.description) for row in rows if row.description}
            self._database.executemany("INSERT OR IGNORE INTO judges VALUES (?, ?)", judges)
            marks = ", ".join("?" * len(Row._fields[1:]))
            insert = f"INSERT OR IGNORE INTO answers VALUES ({marks})"
            return self._database.executemany(insert, [row[1:] for row in rows]).rowcount

    def _copy(self, segments: Segments) -> Spent:
        self._database.execute("PRAGMA synchronous = OFF")  # the segments are what lasts
        spent, seen, payees = Spent(), set[tuple[str, float]](), dict[str, str]()
        for rows in segments.read():
            self._insert(rows)
            # Two hosts may both have paid for a question; a row that lies there twice was paid for once.
            fresh = {(row.key, row.answered_at): row for row in rows if (row.key, row.answered_at) not in seen}
            seen.update(fresh)
            spent += total(_paid(row, payees) for row in fresh.values())
        return spent


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


def _payments(databases: Sequence[sqlite3.Connection]) -> Iterator[Paid]:
    columns = "request, length(prompt) + length(completion), input_tokens, cached_tokens, output_tokens, judge"
    for database in databases:
        payees = {judge: _payee(text) for judge, text in database.execute("SELECT id, description FROM judges")}
        for row in database.execute(f"SELECT {columns} FROM answers"):
            yield Paid._make((*row[:5], payees.get(row[5], "")))


def _paid(row: Row, payees: dict[str, str]) -> Paid:
    if row.description:
        payees[row.judge] = _payee(row.description)
    written, payee = len(row.prompt) + len(row.completion), payees.get(row.judge, "")
    return Paid(row.request, written, row.input_tokens, row.cached_tokens, row.output_tokens, payee)


def _payee(description: str) -> str:
    try:
        judge = json.loads(description)
    except ValueError:  # an audit's finding; as dear as any
        return ""
    return payee(judge) if isinstance(judge, dict) else ""


_WAY_OUT = "restore it from a copy, or move it away and pay for its answers again"


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    check_end(database, path)
    database.execute("PRAGMA journal_mode = WAL")
    # FULL: a commit survives a power cut too; gathering commits pays for it.
    database.execute("PRAGMA synchronous = FULL")
    with database:
        database.execute("BEGIN IMMEDIATE")
        mark = database.execute("PRAGMA application_id").fetchone()[0]
        if not mark and not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in (*_SCHEMA.split(";")[:-1], f"PRAGMA application_id = {_APPLICATION_ID}"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {_VERSION}")
            return
    check_kind(database, path)
    found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise SettingError(f"the ledger {path} is damaged: {found}; {_WAY_OUT}")


def check_end(database: sqlite3.Connection, path: Path) -> None:
    """Raise SettingError where the end of the file is missing."""
    # SQLite reads a last page that was cut off as if zeros followed. With a log beside the file it is still repaired.
    if not log_bytes(path) and path.stat().st_size % database.execute("PRAGMA page_size").fetchone()[0]:
        raise SettingError(f"the ledger {path} is damaged: its end is missing; {_WAY_OUT}")


def check_kind(database: sqlite3.Connection, path: Path) -> None:
    """Raise SettingError where the file is no ledger, or one of another version."""
    mark, version = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if mark != _APPLICATION_ID:
        raise SettingError(f"the ledger {path} is an SQLite file of something else; choose another place")
    if version != _VERSION:
        raise SettingError(f"the ledger {path} has version {version}, this package writes {_VERSION}; {_WAY_OUT}")


def log_bytes(path: Path) -> int:
    """Return the size of the write-ahead log beside a ledger: what is in it is not yet in the file."""
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0


def _row(question: Question, answer: Answer, attempts: int) -> Row:
    usage, request, description = answer.usage, stored(question.request), _written(question.judge)
    if question.occasion:
        request["occasion"] = question.occasion
    return Row(
        description=description,
        key=question.key,
        judge=_digest(description),
        prompt=_storable(question.prompt),
        completion=_storable(question.completion),
        request=json.dumps(request),
        answer=dataclasses.replace(answer, raw="").to_json(),
        raw=_storable(answer.raw),
        served_model=answer.served_model,
        attempts=attempts,
        input_tokens=usage.input_tokens if usage else None,
        cached_tokens=usage.cached_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None,
        answered_at=time.time(),
    )


def stored(request: Request) -> dict[str, Any]:
    """Return a request as a row keeps it: the messages are the rubric, kept with the judge, around texts that have
    columns of their own, and only their size stays.
    """
    plain = request.to_plain()
    del plain["messages"]
    return plain | {"bytes": size(request)}


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _written(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _hash(value: object) -> str:
    return _digest(_written(value))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
