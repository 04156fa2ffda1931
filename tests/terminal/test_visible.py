import json
import unicodedata

import pytest

from dar_jax.terminal.json_text import json_text
from dar_jax.terminal.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\u001b]0;title\u0007"),
        ("\x1b]52;c;ZXZpbA==\x1b\\", r"\u001b]52;c;ZXZpbA==\u001b" + "\\"),
        ("\x9b2J", r"\u009b2J"),
        ("a\rb\x08\x7f", r"a\rb\b\u007f"),
        ("\u202eevil\u2066\u200f\u061c", r"\u202eevil\u2066\u200f\u061c"),
        ("\U000e0041 \ud800", r"\udb40\udc41 \ud800"),
        ("tab\tline\nend", "tab\tline\nend"),
        ("naïve 文字 \U0001f469\u200d\U0001f680 می\u200cروم", "naïve 文字 \U0001f469\u200d\U0001f680 می\u200cروم"),
    ],
)
def test_what_a_screen_would_obey_is_shown(text, shown):
    assert visible(text) == shown


def test_no_control_character_is_left():
    every = "".join(map(chr, range(0x3000)))
    left = {each for each in visible(every) if unicodedata.category(each) in ("Cc", "Zl", "Zp")}
    assert left == {"\t", "\n"}


def test_json_for_a_screen_parses_to_the_same_text_and_has_no_nan():
    value = {"a": "\x1b[2J\u202e\U000e0041\x9b\x7f é", "b": [float("nan"), float("inf"), 1.5]}
    line = json_text(value)
    assert json.loads(line) == {"a": value["a"], "b": [None, None, 1.5]}
    assert visible(line) == line
