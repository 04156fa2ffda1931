"""Answers in a ledger's tables: each with its checksum, and with what others paid for the same question."""

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dar_jax.judging.ledger.ledger_file import has_table
from dar_jax.judging.ledger.segments import StoredAnswer
from dar_jax.judging.money.spent import Paid, payee

COLUMNS = ", ".join(StoredAnswer._fields[1:])
_MARKS = ", ".join("?" * len(StoredAnswer._fields[1:]))
_FIND = f"SELECT crc32, {COLUMNS} FROM answers LEFT JOIN checksums USING (key) WHERE key = ?"
_FIND_UNCHECKED = f"SELECT NULL, {COLUMNS} FROM answers WHERE key = ?"
_PAID = "request, length(prompt) + length(completion), input_tokens, cached_tokens, output_tokens, judge"


def checksum(row: StoredAnswer) -> int:
    """Compute the CRC32 of all columns of a row."""
    return zlib.crc32(json.dumps(row[1:]).encode())


class Found(NamedTuple):
    """An answer in a ledger, without its judge's description; `is_whole` unless its checksum differs. Rows of older
    versions have none.
    """

    row: StoredAnswer
    is_whole: bool


def find_row(database: sqlite3.Connection, key: str, *, with_checksums: bool = True) -> Found | None:
    """Return the answer filed under a key; `with_checksums` False of a ledger of an older version."""
    found = database.execute(_FIND if with_checksums else _FIND_UNCHECKED, (key,)).fetchone()
    if found is None:
        return None
    row = StoredAnswer("", *found[1:])
    return Found(row, found[0] is None or found[0] == checksum(row))


def file_row(database: sqlite3.Connection, row: StoredAnswer) -> StoredAnswer | None:
    """File an answer within a transaction; return the one that is there before it, and stays.

    The payment for a second answer is kept, in `repeats`, and so is that for a damaged one, whose place this takes.
    """
    if not _inserted(database, row):
        found = find_row(database, row.key)
        assert found is not None
        before, is_whole = found
        if before.answered_at != row.answered_at or not is_whole:
            second = row if is_whole else before
            database.execute(f"INSERT OR IGNORE INTO repeats VALUES ({_MARKS})", second[1:])
        if is_whole:
            return before
        database.execute("DELETE FROM answers WHERE key = ?", (row.key,))
        _inserted(database, row)
    database.execute("INSERT OR REPLACE INTO checksums VALUES (?, ?)", (row.key, checksum(row)))
    return None


def _inserted(database: sqlite3.Connection, row: StoredAnswer) -> bool:
    return database.execute(f"INSERT OR IGNORE INTO answers VALUES ({_MARKS})", row[1:]).rowcount > 0


def payments(databases: Sequence[sqlite3.Connection]) -> Iterator[Paid]:
    """Read what was paid for every answer, those to a question that was answered already as well."""
    for database in databases:
        payees = {judge: payee_of(text) for judge, text in database.execute("SELECT id, description FROM judges")}
        for table in ("answers", "repeats"):
            if has_table(database, table):
                for row in database.execute(f"SELECT {_PAID} FROM {table}"):
                    yield Paid._make((*row[:5], payees.get(row[5], "")))


def payee_of(description: str) -> str:
    """Return who is paid for a judge's answers, by what the ledger says of it."""
    try:
        judge = json.loads(description)
    except ValueError:  # an audit's finding; as dear as any
        return ""
    return payee(judge) if isinstance(judge, dict) else ""
