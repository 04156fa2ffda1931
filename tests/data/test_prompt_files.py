"""Prompts from files, in TRL's formats."""

import json
from pathlib import Path
from typing import Any

import pytest

from dar_jax.data import Files, Source
from dar_jax.errors import SettingError
from dar_jax.records import Message

ROWS: list[dict[str, Any]] = [
    {"prompt": "Post one. TL;DR:", "completion": "one", "chosen": "a", "rejected": "b", "stars": 3},
    {"prompt": "Post two. TL;DR:", "completion": "two", "chosen": "c", "rejected": "d", "stars": 4},
]
TALK = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def load(path: Path, **settings: Any) -> Source:
    return Files(path=str(path), **settings).load()


@pytest.fixture(params=["jsonl", "parquet", "saved", "saved_splits", "folder"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    from datasets import Dataset, DatasetDict, disable_progress_bars

    disable_progress_bars()
    if request.param == "jsonl":
        return jsonl(tmp_path / "a.jsonl", ROWS)
    if request.param == "folder":
        (tmp_path / "set").mkdir()
        return jsonl(tmp_path / "set" / "train.jsonl", ROWS).parent
    table, path = Dataset.from_list(ROWS), tmp_path / f"a.{request.param}"
    if request.param == "parquet":
        table.to_parquet(str(path))
    elif request.param == "saved":
        table.save_to_disk(str(path))
    else:
        DatasetDict({"train": table, "test": table.select([0])}).save_to_disk(str(path))
    return path


def test_every_store_gives_the_same_prompts(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(stored.parent / "cache"))
    source = load(stored)
    assert [prompt.id for prompt in source] == [0, 1]
    assert [prompt.text for prompt in source] == [row["prompt"] for row in ROWS]
    assert {"chosen", "rejected", "completion"} <= set(source.columns)
    assert source.pair(1) == ("c", "d")
    assert [source.completion(i) for i in range(2)] == ["one", "two"]


def test_conversations(tmp_path: Path) -> None:
    answer = [{"role": "assistant", "content": "Hi."}]
    rows = [{"prompt": TALK, "completion": answer}, {"prompt": TALK[1:], "completion": answer}]
    source = load(jsonl(tmp_path / "a.jsonl", rows))
    assert source[0].messages == tuple(Message(**turn) for turn in TALK)
    assert source[0].text == "System: Be kind.\n\nUser: Hello?"
    assert source[1].text == "Hello?"
    assert source.completion(0) == "Hi."


def test_strings_and_conversations_may_mix(tmp_path: Path) -> None:
    source = load(jsonl(tmp_path / "a.jsonl", [{"prompt": "plain"}, {"prompt": TALK}]))
    assert source[0].messages is None
    assert source[1].messages is not None


def test_columns_of_other_names_and_slices(tmp_path: Path) -> None:
    rows = [{"post": f"p{i}", "tldr": f"t{i}"} for i in range(9)]
    source = load(
        jsonl(tmp_path / "a.jsonl", rows),
        prompt_column="post",
        completion_column="tldr",
        split="train[2:5]",
    )
    assert [prompt.text for prompt in source] == ["p2", "p3", "p4"]
    assert source.completion(0) == "t2"


def test_small_files_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    source = load(jsonl(tmp_path / "a.jsonl", ROWS))
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]
    assert source[0].text == ROWS[0]["prompt"]


def test_reading_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(jsonl(tmp_path / "a.jsonl", ROWS))
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\n{oops\n')
    (tmp_path / "bad.parquet").write_bytes(b"PAR1, they say")
    with pytest.raises(SettingError):
        load(tmp_path / "bad.jsonl")[1]
    with pytest.raises(SettingError):
        load(tmp_path / "bad.parquet")
    assert capfd.readouterr() == ("", "")


def test_prompts_paired_with_the_wrong_completions(tmp_path: Path) -> None:
    """trl#3491: a planted id comes out with the prompt it went in with, in any order."""
    rows = [{"prompt": f"prompt {i}", "completion": f"of {i}", "row": i} for i in range(2000)]
    source = load(jsonl(tmp_path / "a.jsonl", rows))
    for i in [*range(1999, 0, -97), 0, 1023, 1024]:
        assert source[i].text == f"prompt {i}"
        assert source[i].id == i
        assert source.completion(i) == f"of {i}"


BROKEN = {
    "no such file": ("gone.jsonl", {}, "data.path: there is no file or folder"),
    "no such folder": ("gone/", {}, "data.path: there is no file or folder"),
    "unknown format": ("a.txt", {}, "cannot tell the format"),
    "nothing inside": ("empty.jsonl", {}, "has no rows"),
    "no column": ("a.jsonl", {"prompt_column": "post"}, "no column 'post' \\(it has prompt, comp"),
    "no split": ("a.jsonl", {"split": "test"}, "no split 'test' \\(it has train\\)"),
    "empty slice": ("a.jsonl", {"split": "train[:0]"}, "no data"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_one_line_says_what_is_wrong(case: str, tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a"}\n{oops\n')
    (tmp_path / "empty.jsonl").write_text("")
    name, settings, expected = BROKEN[case]
    with pytest.raises(SettingError, match=expected) as caught:
        load(tmp_path / name, **settings)
    assert "\n" not in str(caught.value)


def test_no_split_of_a_saved_dataset(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict, disable_progress_bars

    disable_progress_bars()
    DatasetDict({"train": Dataset.from_list(ROWS)}).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(SettingError, match="no split 'test'"):
        load(tmp_path / "d", split="test")


def test_no_demonstrations(tmp_path: Path) -> None:
    source = load(jsonl(tmp_path / "a.jsonl", [{"prompt": "a"}]))
    with pytest.raises(SettingError, match=r"data\.completion_column: .* no column 'completion'"):
        source.completion(0)


UNREADABLE = [
    ({"prompt": 7}, "expected a string or a list of messages, got 7"),
    ({"prompt": [{"role": "user"}]}, "user message has no text content"),
    ({"prompt": [*TALK, {"role": "assistant", "content": "x"}]}, "ends with an assistant turn"),
    ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "only text parts"),
]


@pytest.mark.parametrize(("row", "expected"), UNREADABLE)
def test_an_unreadable_row_is_named(row: dict[str, Any], expected: str, tmp_path: Path) -> None:
    source = load(jsonl(tmp_path / "a.jsonl", [row]))
    with pytest.raises(SettingError, match=f"row 0, column 'prompt': .*{expected}"):
        source[0]


def test_a_demonstration_is_one_assistant_message(tmp_path: Path) -> None:
    source = load(jsonl(tmp_path / "a.jsonl", [{"prompt": "a", "completion": TALK}]))
    with pytest.raises(SettingError, match="row 0, column 'completion': expected one assistant"):
        source.completion(0)
