"""How a ledger's file is opened, and what is said where it cannot be."""

import asyncio
import dataclasses
import sqlite3
import threading

import pytest

from dar_jax.cli.main import main
from dar_jax.errors import DarError, SettingError
from dar_jax.judging.ledger import ledger_file, readers
from dar_jax.judging.ledger.ledger import Ledger
from dar_jax.judging.ledger.ledger_file import explained
from dar_jax.reporting.ledgers import export
from tests.judging.ledger.test_ledger import ANSWER, get, put, question

LATER = dataclasses.replace(ANSWER, served_model="m-2")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ledger.sqlite"
    put(path, question())
    return path


def changed(path, *statements):
    with sqlite3.connect(path) as database:
        for statement in statements:
            database.execute(statement)
    database.close()


@pytest.fixture
def locked(path, monkeypatch):
    monkeypatch.setattr(ledger_file, "WAIT_S", 0.05)
    database = sqlite3.connect(path)
    database.execute("BEGIN EXCLUSIVE")
    yield database
    database.close()


def test_a_ledger_in_use_is_said_so_and_nobody_is_told_to_move_it_away(path, locked):
    with pytest.raises(SettingError, match=r"is in use by another process, waited 0\.05 s; wait") as told:
        Ledger(path)
    assert "move it away" not in str(told.value)


def test_a_write_that_waited_too_long_says_so(path, monkeypatch):
    monkeypatch.setattr(ledger_file, "WAIT_S", 0.05)
    with Ledger(path) as ledger:
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DarError, match=r"cannot be written: it is in use by another process, waited 0\.05 s"):
            asyncio.run(ledger.put(question("other"), ANSWER, 1))
        other.close()


def test_a_read_only_ledger_is_said_so(path):
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError) as refused:
        database.execute("DELETE FROM answers")
    database.close()
    for error in (refused.value, PermissionError(13, "Permission denied")):
        told = explained(path, error)
        assert "is read-only or in a read-only folder" in told
        assert "move it away" not in told


@pytest.mark.parametrize("content", [b"judge: {name: openai}\n", b"not a database!!" * 256])
def test_a_file_of_another_kind_is_not_called_damaged(content, tmp_path):
    path = tmp_path / "rubric.yaml"
    path.write_bytes(content)
    for use in (Ledger, lambda place: list(readers.LedgerFile(place).rows()), lambda place: Ledger(place, [path])):
        with pytest.raises(SettingError, match=r"rubric\.yaml is not a ledger: .*; name a ledger's file") as told:
            use(path)
        assert "damaged" not in str(told.value)
    assert path.read_bytes() == content


def test_nobody_else_can_read_a_new_ledger(path):
    with Ledger(path):
        asyncio.run(asyncio.sleep(0))
        modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    assert len(modes) == 3
    assert set(modes.values()) == {0o600}


def test_a_ledger_of_an_older_version_goes_on_and_stays_one(path):
    """Its answers have no checksums; what an older version writes to ours has none either."""
    changed(path, "DROP TABLE checksums", "DROP TABLE repeats")
    assert [row.completion for row in readers.LedgerFile(path).rows()] == ["c"]
    with Ledger(path.with_name("new.sqlite"), [path]) as ledger:
        assert asyncio.run(ledger.get(question().key))
        assert ledger.spent.annotations == 1
    put(path, question("d"))
    marks = ", ".join("?" * 13)
    with sqlite3.connect(path) as database:
        row = ("k", *database.execute("SELECT * FROM answers").fetchone()[1:])
        database.execute(f"INSERT OR IGNORE INTO answers VALUES ({marks})", row)
    database.close()
    assert get(path, question())
    assert get(path, question("d"))
    assert readers.LedgerFile(path).faults() == []


def test_a_damaged_answer_is_told_bought_again_and_paid_for_twice(path):
    changed(path, "UPDATE answers SET answer = replace(answer, '7', '9')")
    with Ledger(path) as ledger:
        assert asyncio.run(ledger.get(question().key)) is None
        (told,) = ledger.notices()
        assert f"damaged answer (key {question().key[:12]})" in told
        assert ledger.notices() == []
        assert asyncio.run(ledger.put(question(), LATER, 1)) == LATER
    assert get(path, question()).served_model == "m-2"
    with Ledger(path) as ledger:
        assert ledger.spent.annotations == 2


def test_a_bit_that_turns_a_text_into_none_is_damage(path):
    changed(path, "UPDATE answers SET answer = CAST(x'ff' || answer AS TEXT), prompt = CAST(x'ff' AS TEXT)")
    with Ledger(path) as ledger:
        assert asyncio.run(ledger.get(question().key)) is None
        assert len(ledger.notices()) == 1
    assert readers.LedgerFile(path).damaged() == {question().key}


def test_a_second_payment_is_counted_and_the_first_answer_is_used(path):
    """Two runs that asked at once: both have paid, and both go on with the same answer."""
    with Ledger(path) as ledger:
        kept = asyncio.run(ledger.put(question(), LATER, 1))
        assert kept == ANSWER
    with Ledger(path) as ledger:
        assert ledger.spent.annotations == 2
        assert ledger.spent.usage.input_tokens == 10
    assert len(list(readers.LedgerFile(path).rows())) == 2


def test_a_copy_is_no_second_payment(path, tmp_path):
    rows = list(readers.LedgerFile(path).rows())
    with Ledger(tmp_path / "merged.sqlite") as merged:
        assert (merged.add(rows), merged.add(rows)) == (1, 0)
    with Ledger(tmp_path / "merged.sqlite") as merged:
        assert merged.spent.annotations == 1


def test_a_merged_ledger_has_no_damaged_answer(path, tmp_path, capsys):
    put(path, question("d"))
    changed(path, "UPDATE answers SET answer = replace(answer, '7', '9') WHERE completion = 'c'")
    assert main(["ledger", "merge", str(path), "--output", str(tmp_path / "new.sqlite")]) == 0
    assert "1 answers; 0 more had the key of one before them, which was kept; 1 damaged ones were left out" in (
        capsys.readouterr().out
    )
    assert readers.LedgerFile(tmp_path / "new.sqlite").faults() == []
    assert "1 damaged ones were left out" in export(path, tmp_path / "o.jsonl", None)


def test_what_another_process_has_filed_is_seen_at_once(path):
    with Ledger(path) as one, Ledger(path) as other:
        assert other.get_now(question("new").key) is None
        asyncio.run(one.put(question("new"), ANSWER, 1))
        found = []
        thread = threading.Thread(target=lambda: found.append(other.get_now(question("new").key)))
        thread.start()
        thread.join()
        assert found[0].served_model == "m-1"
