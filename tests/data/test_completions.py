import json

import pytest

from dar_jax.data.completions import read_completions
from dar_jax.errors import SettingError


def written(tmp_path, *lines):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def test_strings_and_messages_are_read_and_columns_kept(tmp_path):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}]
    rows = [
        {"prompt": "p", "completion": "c", "id": 3},
        {"prompt": turns, "completion": [{"role": "assistant", "content": "Hello."}]},
        {"prompt": [turns[1]], "completion": "a\u2028b"},
    ]
    path = written(tmp_path, rows[0], "\n", *rows[1:])
    found = list(read_completions(path))
    assert [row for row, _ in found] == rows
    assert [(completion.prompt.text, completion.text) for _, completion in found] == [
        ("p", "c"),
        ("System: Be brief.\n\nUser: Hi.", "Hello."),
        ("Hi.", "a\u2028b"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{\n", r"line 2: it is not JSON"),
        ("[1]\n", r"line 2: it is an array; expected an object"),
        ('{"prompt": "p"}\n', r"line 2: no column 'completion' \(it has prompt\)"),
        ('{"completion": "c"}\n', r"line 2: no column 'prompt'"),
        ('{"prompt": 3, "completion": "c"}\n', r"line 2, column 'prompt': expected a string or a list of messages"),
        ('{"prompt": "p", "completion": null}\n', r"line 2, column 'completion': expected a string"),
        ('{"prompt": [{"role": "assistant", "content": ""}]}\n', r"line 2, column 'prompt': .*assistant turn"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path, line, said):
    path = written(tmp_path, {"prompt": "p", "completion": "c"}, line)
    with pytest.raises(SettingError, match=rf"in\.jsonl, {said}") as caught:
        list(read_completions(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_said(tmp_path):
    (tmp_path / "folder.jsonl").mkdir()
    for name in ("nowhere.jsonl", "folder.jsonl"):
        with pytest.raises(SettingError, match=rf"{name}: cannot be read: .*; expected a JSONL file in UTF-8$"):
            list(read_completions(tmp_path / name))


@pytest.mark.parametrize(("encoding", "said"), [("latin-1", "iconv -f latin1"), ("utf-16", "iconv -f utf-16")])
def test_a_row_that_is_not_utf_8_says_how_to_convert_it(tmp_path, encoding, said):
    (tmp_path / "in.jsonl").write_bytes('{"prompt": "é", "completion": "c"}\n'.encode(encoding))
    with pytest.raises(SettingError, match=rf"in\.jsonl, line 1: it is not UTF-8; convert it \({said} -t utf8\)$"):
        list(read_completions(tmp_path / "in.jsonl"))


def test_a_byte_order_mark_and_carriage_returns_are_read_over(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "p", "completion": "c"}\r\n\r\n')
    ((row, _),) = read_completions(tmp_path / "in.jsonl")
    assert row == {"prompt": "p", "completion": "c"}
