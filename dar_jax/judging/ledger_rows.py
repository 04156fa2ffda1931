"""Answers in a ledger's tables: each with its checksum, and with what others paid for the same question."""

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence

from dar_jax.judging.ledger_file import has_table
from dar_jax.judging.segments import Row
from dar_jax.judging.spent import Paid, payee

COLUMNS = ", ".join(Row._fields[1:])
_MARKS = ", ".join("?" * len(Row._fields[1:]))
_PAID = "request, length(prompt) + length(completion), input_tokens, cached_tokens, output_tokens, judge"


def checksum(row: Row) -> int:
    """Compute the CRC32 of all columns of a row."""
    return zlib.crc32(json.dumps(row[1:]).encode())


def find_row(database: sqlite3.Connection, key: str) -> Row | None:
    """Return the answer filed under a key, without its judge's description."""
    found = database.execute(f"SELECT {COLUMNS} FROM answers WHERE key = ?", (key,)).fetchone()
    return None if found is None else Row("", *found)


def is_whole(database: sqlite3.Connection, row: Row) -> bool:
    """Whether a row is as it was written; True of one that an older version wrote without a checksum."""
    if not has_table(database, "checksums"):
        return True
    found = database.execute("SELECT crc32 FROM checksums WHERE key = ?", (row.key,)).fetchone()
    return found is None or found[0] == checksum(row)


def file_row(database: sqlite3.Connection, row: Row) -> Row | None:
    """File an answer within a transaction; return the one that is there before it, and stays.

    The payment for a second answer is kept, in `repeats`, and so is that for a damaged one, whose place this takes.
    """
    before = find_row(database, row.key)
    if before and is_whole(database, before):
        if before.answered_at != row.answered_at:
            database.execute(f"INSERT OR IGNORE INTO repeats VALUES ({_MARKS})", row[1:])
        return before
    if before:
        database.execute(f"INSERT OR IGNORE INTO repeats VALUES ({_MARKS})", before[1:])
        database.execute("DELETE FROM answers WHERE key = ?", (row.key,))
    database.execute(f"INSERT INTO answers VALUES ({_MARKS})", row[1:])
    database.execute("INSERT OR REPLACE INTO checksums VALUES (?, ?)", (row.key, checksum(row)))
    return None


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
