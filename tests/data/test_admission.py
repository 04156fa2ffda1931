"""Which prompts may be used."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_jax.data import Source, admit
from dar_jax.errors import SettingError
from tests.small_tokenizers import IM_TEMPLATE, tokenizer

WORDS = tokenizer()


def source(*prompts: object) -> Source:
    return Source(
        rows=[{"prompt": prompt} for prompt in prompts],
        where="a.jsonl",
        split="train",
        columns=("prompt",),
    )


BAD = {
    "empty": " \n ",
    "no_tokens": "zzz",
    "too_long": "the cat sat on the mat",
    "unreadable": 7,
}


def test_good_prompts_pass_with_their_lengths() -> None:
    admitted = admit(source("the cat", "sat"), WORDS, 5)
    assert (admitted.ids, admitted.lengths) == ([0, 1], [2, 1])
    assert admitted.describe() == "2 prompts"


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("empty", "row 1 is empty"),
        ("no_tokens", "row 1 gives no tokens"),
        ("too_long", "row 1 has 6 tokens, more than max_prompt_length 5"),
        ("unreadable", "row 1, column 'prompt'"),
    ],
)
def test_a_bad_prompt_is_an_error_that_names_the_row(reason: str, message: str) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        admit(source("the cat", BAD[reason]), WORDS, 5)
    assert "\n" not in str(caught.value)


def test_skipped_prompts_are_counted_by_reason() -> None:
    admitted = admit(source(*BAD.values(), "the cat", "zzz"), WORDS, 5, on_bad="skip")
    assert admitted.ids == [4]
    assert admitted.skipped == {"empty": 1, "no_tokens": 2, "too_long": 1, "unreadable": 1}
    assert "2 no tokens (first: row 1)" in admitted.describe()


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(SettingError, match=r"no usable prompt; .*1 empty"):
        admit(source(""), WORDS, 5, on_bad="skip")


def test_template_tokens_do_not_hide_an_empty_prompt() -> None:
    chat = tokenizer(template=IM_TEMPLATE)
    talk = [[{"role": "user", "content": content}] for content in ("the cat", "", "zzz")]
    admitted = admit(source(*talk), chat, 50, on_bad="skip")
    assert admitted.ids == [0]
    assert admitted.skipped == {"empty": 1, "no_tokens": 1}


@given(st.lists(st.sampled_from(["the cat", "", "zzz", "cat " * 9]), min_size=1, max_size=40))
def test_every_row_is_admitted_or_counted(prompts: list[str]) -> None:
    rows = source("sat", *prompts)
    admitted = admit(rows, WORDS, 5, on_bad="skip")
    assert len(admitted) + sum(admitted.skipped.values()) == len(rows)
    assert all(rows[i].text in {"the cat", "sat"} for i in admitted.ids)
