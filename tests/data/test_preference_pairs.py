"""Labelled pairs in TRL's formats."""

import json

import pytest

from dar_jax.data.preference_pairs import read_pairs
from dar_jax.errors import SettingError


def _file(tmp_path, *rows):
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def _turn(role, content):
    return {"role": role, "content": content}


ASKED = [_turn("user", "Why is the sky blue?")]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why is the sky blue?", "chosen": "Light scatters.", "rejected": "Magic."},
        {"prompt": ASKED, "chosen": [_turn("assistant", "Light scatters.")], "rejected": "Magic."},
        {
            "chosen": [*ASKED, _turn("assistant", "Light scatters.")],
            "rejected": [*ASKED, _turn("assistant", "Magic.")],
        },
    ],
    ids=["strings", "messages", "shared beginning"],
)
def test_every_form_of_a_pair_is_read(tmp_path, row):
    (pair,) = read_pairs(_file(tmp_path, row))
    assert (pair.chosen.text, pair.rejected.text) == ("Light scatters.", "Magic.")
    assert pair.chosen.prompt == pair.rejected.prompt
    assert pair.chosen.prompt.text == "Why is the sky blue?"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "a", "chosen": "b"}, "no column 'rejected'"),
        ({"chosen": "b", "rejected": "c"}, "row 1: without a column 'prompt'"),
        ({"chosen": ASKED, "rejected": [_turn("user", "Other?")]}, "row 1: chosen and rejected begin with different"),
        ({"prompt": "a", "chosen": "b", "rejected": 3}, "row 1: expected a string or a list of messages, got 3"),
        (
            {"prompt": "a", "chosen": [*ASKED, _turn("assistant", "x")], "rejected": "c"},
            "row 1: expected one assistant message",
        ),
    ],
)
def test_what_is_no_pair_is_told_by_its_row(tmp_path, row, told):
    with pytest.raises(SettingError, match=told):
        read_pairs(_file(tmp_path, row))
