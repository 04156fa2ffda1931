"""The ledger: every paid answer is on disk before it is used, and a question that was asked before is free.

SQLite in WAL mode; one writer thread commits all pending answers in one synchronous transaction. Two runs on one
machine may share a ledger; SQLite's WAL does not work over network file systems. Under a URL the rows are stored as
segments (segments.py) before they are committed; SQLite holds a copy of them while the ledger is open. `ledger_file.py`
has the tables. The columns of an answer:

    key      hash of the judge, the question and the sampling parameters
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
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from dar_jax.chat.wire import Answer, Request
from dar_jax.errors import DarError, SettingError
from dar_jax.judging.ledger.batched_calls import BatchedCalls
from dar_jax.judging.ledger.ledger_file import explained, fault_of, has_table, open_to_read, open_to_write
from dar_jax.judging.ledger.ledger_rows import file_row, find_row, payee_of, payments
from dar_jax.judging.ledger.segments import Segments, StoredAnswer
from dar_jax.judging.money.spent import Paid, Spent, size, total

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Question:
    """The key of an answer. `judge` is the identity of wire and protocol, as JSON.

    The same question on another `occasion` has another key.
    """

    judge: Mapping[str, object]
    request: Request
    prompt: str
    completion: str
    occasion: str = ""

    @functools.cached_property
    def key(self) -> str:
        """The hash of everything that determines the answer."""
        decides = {"judge": self.judge, "request": self.request.deciding()}
        return _hash(decides | ({"occasion": self.occasion} if self.occasion else {}))


class _Source(NamedTuple):
    """A database with answers."""

    place: Path | str
    database: sqlite3.Connection
    has_checksums: bool = True


class Ledger:
    """An open ledger: a file, or segments under a URL. Raises SettingError if it is damaged, DarError if a write fails.

    Missing answers are looked up in `others`, the ledgers of a run's other hosts, which are only read; segments are
    shared by all hosts. An answer whose checksum differs counts as missing, and becomes a notice.
    """

    def __init__(self, place: Path | str, others: Sequence[Path] = ()) -> None:
        self._place = place
        self._closed = False
        self._segments: Segments | None = None
        self._reader: sqlite3.Connection | None = None
        self._notices: deque[str] = deque()
        self._damaged: set[str] = set()
        with ExitStack() as opened:
            self._writer = opened.enter_context(ThreadPoolExecutor(1, thread_name_prefix="ledger"))
            if "://" in str(place):
                self._segments = Segments(str(place))
                scratch = opened.enter_context(tempfile.TemporaryDirectory(prefix="dar-jax-ledger-"))
                place = Path(scratch) / "copy.sqlite"
            path = Path(place)
            self._database = self._on_writer(open_to_write, path)
            opened.callback(self._on_writer, self._database.close)
            self._sources = [_Source(self._place, self._database)]
            for other in others:
                database = self._on_writer(open_to_read, other)
                opened.callback(self._on_writer, database.close)
                self._sources.append(_Source(other, database, self._on_writer(has_table, database, "checksums")))
            if self._segments:
                self._spent = self._on_writer(self._copy, self._segments)
            else:
                self._spent = self._on_writer(self._add_up)
                self._reader = open_to_read(path)
                opened.callback(self._reader.close)
            self._opened = opened.pop_all()
        self._look, self._file = BatchedCalls(self._writer, self._get), BatchedCalls(self._writer, self._commit)

    @property
    def spent(self) -> Spent:
        """The cost of all answers, also in `others`, when the ledger was opened."""
        return self._spent

    def notices(self) -> list[str]:
        """Return new notices about damaged answers."""
        return [self._notices.popleft() for _ in range(len(self._notices))]

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def get(self, key: str) -> Answer | None:
        """Return the answer with this key, or None."""
        return await self._look(key)

    def get_now(self, key: str) -> Answer | None:
        """Return the answer with this key that this or another process has stored by now, or None.

        Blocks for a read of the file; call it from one event loop's thread. Segments of other processes are read at the
        next start only.
        """
        if self._reader is None:
            return None
        try:
            return self._found(_Source(self._place, self._reader), key)
        except (sqlite3.Error, ValueError) as error:
            raise DarError(explained(self._place, error)) from None

    async def put(self, question: Question, answer: Answer, attempts: int) -> Answer:
        """Store an answer; return when it is durable. An answer that is there already stays and is returned; the
        payment for the new one is recorded.
        """
        return await self._file(_row(question, answer, attempts)) or answer

    def add(self, rows: Sequence[StoredAnswer]) -> int:
        """Store another ledger's answers durably; return how many were new."""
        return self._on_writer(self._add, rows)

    def close(self) -> None:
        """Write pending answers and close the file; do nothing if closed already."""
        if not self._closed:
            self._closed = True
            self._opened.close()

    def _on_writer(self, function: Callable[..., T], *arguments: object) -> T:
        return self._writer.submit(function, *arguments).result()

    def _get(self, keys: Sequence[str]) -> list[Answer | None]:
        try:
            return [self._answer(key) for key in keys]
        except (sqlite3.Error, ValueError) as error:
            raise DarError(explained(self._everywhere(), error)) from None

    def _answer(self, key: str) -> Answer | None:
        for source in self._sources:
            if found := self._found(source, key):
                return found
        return None

    def _found(self, source: "_Source", key: str) -> Answer | None:
        found = find_row(source.database, key, with_checksums=source.has_checksums)
        if found is None:
            return None
        if found.is_whole:
            return _answer_in(found.row)
        if key not in self._damaged:
            self._damaged.add(key)
            self._notices.append(
                f"the ledger {source.place} has a damaged answer (key {key[:12]}): its checksum differs; it is not used"
                " but asked for again; `dar-jax ledger audit` lists all that are damaged"
            )
        return None

    def _add_up(self) -> Spent:
        try:
            return total(payments([source.database for source in self._sources]))
        except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
            raise SettingError(explained(self._everywhere(), error)) from None

    def _everywhere(self) -> str:
        return ", ".join(str(source.place) for source in self._sources)

    def _commit(self, rows: Sequence[StoredAnswer]) -> list[Answer | None]:
        try:
            if self._segments:
                self._segments.write(rows)
            return [before and _answer_in(before) for before in self._insert(rows)]
        except (sqlite3.Error, ValueError, OverflowError, DarError) as error:
            raise DarError(f"{self._unwritten(error)}; no unrecorded answer is used") from None

    def _add(self, rows: Sequence[StoredAnswer]) -> int:
        try:
            return sum(before is None for before in self._insert(rows))
        except (sqlite3.Error, OverflowError) as error:
            raise DarError(self._unwritten(error)) from None

    def _unwritten(self, error: Exception) -> str:
        reason = str(error)
        if isinstance(error, sqlite3.Error):
            what, way_out = fault_of(error)
            reason = f"it {what}; {way_out}"
        return f"the ledger {self._place} cannot be written: {reason}"

    def _insert(self, rows: Sequence[StoredAnswer]) -> list[StoredAnswer | None]:
        """Store rows in one transaction; return for each the row that was there before."""
        with self._database as database:
            database.execute("BEGIN IMMEDIATE")
            judges = {(row.judge, row.description) for row in rows if row.description}
            database.executemany("INSERT OR IGNORE INTO judges VALUES (?, ?)", judges)
            return [file_row(database, row) for row in rows]

    def _copy(self, segments: Segments) -> Spent:
        self._database.execute("PRAGMA synchronous = OFF")  # the segments are durable
        spent, seen, payees = Spent(), set[tuple[str, float]](), dict[str, str]()
        for rows in segments.read():
            self._insert(rows)
            # Two hosts may have paid for the same question; a row that is stored twice was paid for once.
            fresh = {(row.key, row.answered_at): row for row in rows if (row.key, row.answered_at) not in seen}
            seen.update(fresh)
            spent += total(_paid(row, payees) for row in fresh.values())
        return spent


def _paid(row: StoredAnswer, payees: dict[str, str]) -> Paid:
    if row.description:
        payees[row.judge] = payee_of(row.description)
    written, payee = len(row.prompt) + len(row.completion), payees.get(row.judge, "")
    return Paid(row.request, written, row.input_tokens, row.cached_tokens, row.output_tokens, payee)


def _answer_in(row: StoredAnswer) -> Answer:
    return dataclasses.replace(Answer.from_json(row.answer), raw=row.raw)


def _row(question: Question, answer: Answer, attempts: int) -> StoredAnswer:
    usage, request, description = answer.usage, stored(question.request), _written(question.judge)
    if question.occasion:
        request["occasion"] = question.occasion
    return StoredAnswer(
        description=description,
        key=question.key,
        judge=digest_of(description),
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
    """Return a request as stored in a row: of the messages only their size, since the rubric is stored with the judge
    and the texts have their own columns.
    """
    plain = request.to_plain()
    del plain["messages"]
    return plain | {"bytes": size(request)}


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _written(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def _hash(value: object) -> str:
    return digest_of(_written(value))


def digest_of(text: str) -> str:
    """Return a hash: the id of a judge's JSON description, or a key."""
    return hashlib.sha256(text.encode()).hexdigest()
