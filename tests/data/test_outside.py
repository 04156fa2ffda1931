"""Files of other people: odd names, other encodings, broken columns, rows that are no objects."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dar_jax.data import Files, admit, jsonl
from dar_jax.data.preference_pairs import read_pairs
from dar_jax.errors import SettingError
from tests.small_tokenizers import IM_TEMPLATE, TOOLS_TEMPLATE, tokenizer

TALK = [{"role": "user", "content": "the cat"}]
ODD = ["a[1].{}", "a*.{}", "a?.{}", "[a-z].{}", "{{a,b}}.{}"]


def written(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def first(path: Path, **settings: Any) -> str:
    return str(Files(path=str(path), **settings).load()[0].text)


@pytest.mark.parametrize("name", ODD)
def test_a_files_name_is_no_pattern(name: str, tmp_path: Path) -> None:
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    for decoy in ("a1", "ab", "a", "b"):
        written(tmp_path / f"{decoy}.jsonl", {"prompt": "another file"})
        Dataset.from_list([{"prompt": "another file"}]).to_parquet(str(tmp_path / f"{decoy}.parquet"))
    assert first(written(tmp_path / name.format("jsonl"), {"prompt": "mine"})) == "mine"
    Dataset.from_list([{"prompt": "mine"}]).to_parquet(str(tmp_path / name.format("parquet")))
    assert first(tmp_path / name.format("parquet")) == "mine"


def test_a_folders_name_is_no_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    written(tmp_path / "lr[1e-6]" / "train.jsonl", {"prompt": "mine"})
    written(tmp_path / "lr1" / "train.jsonl", {"prompt": "another folder"})
    assert first(tmp_path / "lr[1e-6]") == "mine"


def test_a_column_that_is_not_used_is_not_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"prompt": "the cat", "junk": 1}, {"prompt": "sat", "junk": [{"a": "b"}]}, {"prompt": "on", "junk": "x"}]
    assert len(admit(Files(path=str(written(tmp_path / "a.jsonl", *rows))).load(), tokenizer(), 9)) == 3
    broken = pa.array([b"\xff\xfe", b"\xe9"]).cast(pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, broken.buffers())
    pq.write_table(pa.table({"prompt": ["the cat", "sat"], "junk": text, "completion": text}), tmp_path / "a.parquet")
    source = Files(path=str(tmp_path / "a.parquet")).load()
    assert len(admit(source, tokenizer(), 9)) == 2
    assert "junk" not in source.columns
    with pytest.raises(SettingError, match=r"row 0, column 'completion': not UTF-8"):
        source.completion(0)


FAULTS = {
    "latin-1": ('{"prompt": "é"}'.encode("latin-1"), r"is not UTF-8; convert it \(iconv -f latin1 -t utf8\)"),
    "a string": (b'"the cat"', 'is a string; expected an object such as {"prompt": ...}'),
    "an array": (b"[1]", "is an array; expected an object"),
    "a number": (b"3", "is a number; expected an object"),
    "null": (b"null", "is null; expected an object"),
    "not JSON": (b"{oops", r"is not JSON \(.*\); expected one object a line"),
    "deep": (b"[" * 100_000 + b"]" * 100_000, "is nested too deep|is not JSON"),
    "long": (b'{"prompt": "' + b"a" * 2000 + b'"}', "is a line of more than 1,000 bytes; expected one object a line"),
    "zeros": (b"\0\0\0", "is not JSON"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_row_that_is_no_object_is_one_line_or_skipped(
    fault: str, on_disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, expected = FAULTS[fault]
    if fault == "long":
        monkeypatch.setattr(jsonl, "LONGEST_LINE", 1000)
    monkeypatch.setattr(jsonl, "IN_MEMORY", 0 if on_disk else 1 << 28)
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"prompt": "the cat"}\n\n' + line + b'\n{"prompt": "sat"}')
    source = Files(path=str(file)).load()
    with pytest.raises(SettingError, match=rf"^data\.path: .*a\.jsonl: row 1 \(line 3\) ({expected})") as caught:
        admit(source, tokenizer(), 9)
    assert "\n" not in str(caught.value)
    admitted = admit(source, tokenizer(), 9, on_bad="skip")
    assert admitted.ids == [0, 2]
    assert admitted.skipped == {"unreadable": 1}


def test_half_a_character_is_named_with_its_row(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"prompt": "the cat"}\n{"prompt": "the \\ud83d cat"}\n')
    source = Files(path=str(file)).load()
    with pytest.raises(SettingError, match=r"row 1: tokenizer: a text holds half a character, '\\ud83d'"):
        admit(source, tokenizer(), 9)
    assert admit(source, tokenizer(), 9, on_bad="skip").ids == [0]


def test_byte_order_marks_carriage_returns_arrays_and_columns_are_read(tmp_path: Path) -> None:
    (tmp_path / "bom.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n{"prompt": "b"}\r\n')
    (tmp_path / "array.json").write_text('[\n {"prompt": "a"},\n {"prompt": "b"}\n]')
    (tmp_path / "columns.json").write_text('{\n "prompt": ["a", "b"]\n}')
    for name in ("bom.jsonl", "array.json", "columns.json"):
        assert [prompt.text for prompt in Files(path=str(tmp_path / name)).load()] == ["a", "b"]
    (tmp_path / "one.json").write_text('{\n "prompt": "a"\n}')
    assert first(tmp_path / "one.json") == "a"
    (tmp_path / "wide.jsonl").write_bytes('{"prompt": "a"}\n'.encode("utf-16"))
    with pytest.raises(SettingError, match=r"row 0 is not UTF-8; convert it \(iconv -f utf-16 -t utf8\)"):
        first(tmp_path / "wide.jsonl")


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.json"])
def test_an_empty_file_and_a_folder_in_its_place_are_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(SettingError, match=r"^data\.path: .*(has no rows|cannot read)") as caught:
        first(tmp_path / name)
    assert "\n" not in str(caught.value)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(SettingError, match=r"^data\.path: ") as caught:
        first(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_large_file_that_changes_while_it_is_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "IN_MEMORY", 0)
    file = written(tmp_path / "a.jsonl", {"prompt": "a"}, {"prompt": "b"})
    source = Files(path=str(file)).load()
    assert source[1].text == "b"
    os.utime(file, ns=(0, 0))
    with pytest.raises(SettingError, match="was changed while it is in use"):
        source[1]


# --- what a row has for the chat template --------------------------------------------------------

CALL = {"type": "function", "function": {"name": "dog", "arguments": {}}}
CALLED = [
    *TALK,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "a mat", "name": "dog"},
]


def test_tools_and_tool_calls_of_a_row_reach_the_template(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "dog"}}]
    file = written(
        tmp_path / "a.jsonl",
        {"prompt": CALLED[:2] + TALK, "tools": tools},
        {"prompt": TALK, "tools": json.dumps(tools)},
        {"prompt": TALK, "tools": None},
    )
    source = Files(path=str(file)).load()
    assert source[0].tools == source[1].tools == tuple(tools)
    assert source[2].tools is None
    assert '"name": "dog"' in source[0].text  # the judge sees the call
    assert len(admit(source, tokenizer(template=TOOLS_TEMPLATE), 200)) == 3
    with pytest.raises(SettingError, match=r"row 0: tool_calls: a message has it"):
        admit(source, tokenizer(template=IM_TEMPLATE), 200)
    assert admit(source, tokenizer(template=IM_TEMPLATE), 200, on_bad="skip").ids == [2]


REFUSED = [
    ({"prompt": TALK, "tools": "hammer, saw"}, r"column 'tools': expected a list of tool schemas"),
    ({"prompt": TALK, "tools": [1]}, r"column 'tools': expected a list of tool schemas"),
    ({"prompt": TALK, "chat_template_kwargs": [1]}, r"column 'chat_template_kwargs': expected an object"),
    ({"prompt": TALK, "chat_template_kwargs": {"depth": 1}}, r"row 0: depth: the row has it"),
    ({"prompt": [*TALK, {"role": "user", "content": None}]}, "user message has no text content"),
    ({"prompt": [{**TALK[0], "name": "Ann"}]}, "row 0: name: a message has it"),
    ({"prompt": [{**TALK[0], "reasoning_content": "hm"}]}, "row 0: reasoning_content: a message has it"),
    ({"prompt": "the cat", "tools": [{"name": "dog"}]}, "row 0: tools: the prompt is a string"),
]


@pytest.mark.parametrize(("row", "expected"), REFUSED)
def test_what_the_template_would_not_read_is_refused_by_name(
    row: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    source = Files(path=str(written(tmp_path / "a.jsonl", row))).load()
    with pytest.raises(SettingError, match=expected) as caught:
        admit(source, tokenizer(template=IM_TEMPLATE), 200)
    assert "\n" not in str(caught.value)


def test_nulls_of_a_table_are_no_keys(tmp_path: Path) -> None:
    turns = [{**TALK[0], "name": None}]
    source = Files(path=str(written(tmp_path / "a.jsonl", {"prompt": turns, "tools": []}))).load()
    assert source[0].turns is None
    assert len(admit(source, tokenizer(template=IM_TEMPLATE), 200)) == 1


def test_pairs_name_the_row_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "p[1].jsonl"
    file.write_bytes(b'{"prompt": "p", "chosen": "a", "rejected": "b"}\n{"prompt": "\xe9"}\n')
    with pytest.raises(SettingError, match=r"^--data .*row 1 is not UTF-8; convert it"):
        read_pairs(str(file))
