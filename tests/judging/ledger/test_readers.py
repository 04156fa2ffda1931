"""Ledgers read by others than their judge, which nothing changes."""

import asyncio
import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from dar_jax.errors import SettingError
from dar_jax.judging.ledger import readers
from dar_jax.judging.ledger.ledger import Ledger
from tests.judging.ledger.test_ledger import ANSWER, KILLED, put, question


def contents(folder):
    """All that lies in a folder but SQLite's index of a log, which every reader may write."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}


def rows_of(place):
    return [row for ledger in readers.find(place) for row in ledger.rows()]


def texts(place):
    return [row.completion for row in readers.distinct(rows_of(place), readers.key)]


def test_rows_come_in_order_with_their_judge(tmp_path):
    path = tmp_path / "ledger.sqlite"
    for text in "cab":
        put(path, question(text))
    before = contents(tmp_path)
    rows = list(readers.LedgerFile(path).rows())
    assert [row.completion for row in rows] == list("cab")
    assert {row.description for row in rows} == {'{"model": "m"}'}
    assert (rows[0].key, rows[0].attempts, rows[0].input_tokens) == (question("c").key, 1, 5)
    assert readers.LedgerFile(path).faults() == []
    assert contents(tmp_path) == before
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.sqlite"]


def test_a_folder_that_cannot_be_written_will_do(tmp_path):
    put(tmp_path / "ledger.sqlite", question("a"))
    tmp_path.chmod(0o500)
    try:
        assert texts(tmp_path) == ["a"]
    finally:
        tmp_path.chmod(0o700)


def test_a_ledger_in_use_is_read_as_it_is(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        asyncio.run(ledger.put(question("a"), ANSWER, 1))
        rows = readers.LedgerFile(path).rows()
        assert next(rows).completion == "a"
        asyncio.run(ledger.put(question("b"), ANSWER, 1))
        assert list(rows) == []
        assert texts(path) == ["a", "b"]


def test_what_a_killed_run_left_is_read_and_left(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True) as process:
        for _ in range(5):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    before = contents(tmp_path)
    assert len(before["ledger.sqlite-wal"]) > 0
    assert texts(path)[:5] == list("01234")
    assert contents(tmp_path) == before


def test_a_run_has_the_ledgers_of_all_its_hosts(tmp_path):
    put(tmp_path / "ledger.sqlite", question("a"))
    put(tmp_path / "ledger-1.sqlite", question("b"))
    put(tmp_path / "ledger-1.sqlite", question("a"), dataclasses.replace(ANSWER, served_model="later"))
    rows = list(readers.distinct(rows_of(tmp_path), readers.key))
    assert [(row.completion, row.served_model) for row in rows] == [("a", "m-1"), ("b", "m-1")]
    assert len(list(readers.distinct(rows_of(tmp_path), readers.billing))) == 3


def test_segments_are_read(url):
    put(f"{url}/ledger/0", question("a"))
    with Ledger(f"{url}/ledger/1") as ledger:

        async def together():
            await asyncio.gather(*(ledger.put(question(text), ANSWER, 1) for text in "bc"))

        asyncio.run(together())
    (stored,) = readers.find(url)
    rows = list(stored.rows())
    assert sorted(row.completion for row in rows) == list("abc")
    assert {row.description for row in rows} == {'{"model": "m"}'}


@pytest.mark.parametrize("place", ["nowhere", "empty", "file:///no/such/run"])
def test_where_no_ledger_is_is_said(tmp_path, place):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingError, match="there is no ledger; name"):
        readers.find(place if "://" in place else tmp_path / place)


def test_what_is_no_ledger_is_said(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE cats (name)")
    database.close()
    with pytest.raises(SettingError, match="something else"):
        texts(path)
    path.write_bytes(b"not a database!!" * 256)
    with pytest.raises(SettingError, match=r"ledger\.sqlite is not a ledger"):
        texts(path)
