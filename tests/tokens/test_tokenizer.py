"""Tokens, templates and ends; each trap of the field under its own name."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_jax.errors import SettingError
from dar_jax.records import Message, Prompt
from dar_jax.tokens import Tokenizer, TokenizerSettings, pad
from tests.small_tokenizers import BOS_TEMPLATE, IM_TEMPLATE, NO_SYSTEM_TEMPLATE, hf, tokenizer

UNK, BOS, EOS, PAD, IM_START, IM_END, THE, CAT = range(8)
TEXT = Prompt(id=0, text="the cat")
USER = Message(role="user", content="the cat")
TALK = Prompt(id=0, text="the cat", messages=(USER,))


def saved(path: Path, **built: object) -> Path:
    hf(**built).save_pretrained(str(path))  # type: ignore[arg-type]
    return path


# --- end of a completion -------------------------------------------------------------------------


def test_only_one_eos_id_honoured(tmp_path: Path) -> None:
    """trl#7039: the end is a set, from generation_config, config, tokenizer and chat template."""
    saved(tmp_path, template=IM_TEMPLATE)
    assert Tokenizer.load(str(tmp_path)).eos_ids == {EOS, IM_END}
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [EOS, CAT]}))
    assert Tokenizer.load(str(tmp_path)).eos_ids == {EOS, IM_END, CAT}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", "eos_token_id": THE}))
    assert Tokenizer.load(str(tmp_path)).eos_ids == {EOS, IM_END, CAT, THE}


def test_a_template_set_aside_ends_nothing(tmp_path: Path) -> None:
    saved(tmp_path, template=IM_TEMPLATE)
    assert Tokenizer.load(str(tmp_path), chat_template="none").eos_ids == {EOS}


def test_eos_masked_out_because_pad_equals_eos() -> None:
    """trl#6357: the terminal EOS is a token like any other, whatever the pad id."""
    words = tokenizer(pad_token="</s>")
    assert words.pad_id in words.eos_ids
    rows = [words.encode_completion("the cat"), words.encode_completion("cat")]
    token_BT, mask_BT = pad(rows, words.pad_id, side="right")
    assert mask_BT.tolist() == [[True, True, True], [True, True, False]]
    assert token_BT[mask_BT].tolist() == [THE, CAT, EOS, CAT, EOS]


def test_no_pad_token_falls_back_to_eos() -> None:
    assert tokenizer(pad_token=None).pad_id == EOS


def test_no_end_token_at_all_is_an_error() -> None:
    with pytest.raises(SettingError, match="names no end token"):
        tokenizer(eos_token=None)


def test_completion_ends_once_and_as_its_prompt_asks() -> None:
    words = tokenizer(template=IM_TEMPLATE)
    assert words.encode_completion("the cat") == [THE, CAT, EOS]
    assert words.encode_completion("the cat", conversation=True) == [THE, CAT, IM_END]
    assert words.encode_completion("the cat<|im_end|></s>") == [THE, CAT, EOS]
    assert tokenizer().encode_completion("the cat", conversation=True) == [THE, CAT, EOS]


def test_eos_added_by_the_tokenizer_does_not_end_the_prompt() -> None:
    words = tokenizer(adds_bos=True, adds_eos=True)
    assert words.encode_prompt(TEXT) == [BOS, THE, CAT]
    assert words.encode_completion("cat") == [CAT, EOS]


# --- start of a prompt ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("adds_bos", "template", "expected"),
    [
        (False, IM_TEMPLATE, 0),
        (True, IM_TEMPLATE, 1),
        (False, BOS_TEMPLATE, 1),
        (True, BOS_TEMPLATE, 1),
    ],
)
def test_double_or_missing_bos(adds_bos: bool, template: str, expected: int) -> None:
    """trl#1114, trl#3520: template and tokenizer may each add BOS; one results, or none."""
    words = tokenizer(adds_bos=adds_bos, template=template, bos_token="<s>")
    ids = words.encode_prompt(TALK)
    assert ids.count(BOS) == expected
    assert ids[expected] == IM_START
    assert words.encode_prompts([TALK, TEXT]) == [ids, words.encode_prompt(TEXT)]


@pytest.mark.parametrize("text", ["the cat", "<s>the cat", "<s><s>the cat"])
def test_bos_once_before_plain_text(text: str) -> None:
    words = tokenizer(adds_bos=True)
    assert words.encode_prompt(Prompt(id=0, text=text)) == [BOS, THE, CAT]


# --- conversations -------------------------------------------------------------------------------


def test_conversations_go_through_the_template_and_strings_do_not() -> None:
    words = tokenizer(template=IM_TEMPLATE)
    talk = words.encode_prompt(TALK)
    assert talk[0] == IM_START
    assert talk[-2] == IM_START  # the assistant's turn is open
    assert words.encode_prompt(TEXT) == [THE, CAT]
    assert tokenizer(template=IM_TEMPLATE, wrap_text=True).encode_prompt(TEXT) == talk


def test_a_conversation_needs_a_template() -> None:
    with pytest.raises(SettingError, match=r"tokenizer\.chat_template: .* has no chat template"):
        tokenizer().encode_prompt(TALK)


def test_a_system_message_is_put_first_unless_there_is_one() -> None:
    words = tokenizer(template=IM_TEMPLATE, system="a dog")
    own = Prompt(id=0, text="", messages=(Message(role="system", content="a mat"), USER))
    bare = tokenizer(template=IM_TEMPLATE)
    spoken = Prompt(id=0, text="", messages=(Message(role="system", content="a dog"), USER))
    assert words.encode_prompt(TALK) == bare.encode_prompt(spoken)
    assert bare.encode_prompt(TALK, system="a dog") == bare.encode_prompt(spoken)
    assert words.encode_prompt(own) == bare.encode_prompt(own)


def test_a_template_that_refuses_is_one_line() -> None:
    words = tokenizer(template=NO_SYSTEM_TEMPLATE, system="a dog")
    assert words.turn_end_id == IM_END
    with pytest.raises(SettingError, match="refuses a conversation with the roles") as caught:
        words.encode_prompt(TALK)
    assert "\n" not in str(caught.value)


def test_a_template_from_a_file(tmp_path: Path) -> None:
    saved(tmp_path / "t")
    (tmp_path / "chat.jinja").write_text(IM_TEMPLATE)
    words = TokenizerSettings(chat_template=str(tmp_path / "chat.jinja")).open(str(tmp_path / "t"))
    assert words.encode_prompt(TALK)[0] == IM_START
    with pytest.raises(SettingError, match=r"chat_template: cannot read .*expected auto, none or"):
        Tokenizer.load(str(tmp_path / "t"), chat_template="autp")


# --- text ----------------------------------------------------------------------------------------


def test_decode_drops_ends_and_ids_beyond_the_vocabulary() -> None:
    words = tokenizer(template=IM_TEMPLATE)
    assert words.decode([THE, CAT, IM_END, PAD, PAD]) == "the cat"
    assert words.decode(np.array([THE, CAT, words.vocab_size, words.vocab_size + 7])) == "the cat"
    assert words.decode([]) == ""


def test_save_and_load_agree(tmp_path: Path) -> None:
    words = tokenizer(template=BOS_TEMPLATE, adds_bos=True)
    words.save(tmp_path)
    again = Tokenizer.load(str(tmp_path))
    assert again.encode_prompt(TALK) == words.encode_prompt(TALK)
    assert (again.eos_ids, again.pad_id, again.vocab_size) == (
        words.eos_ids,
        words.pad_id,
        words.vocab_size,
    )


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_a_model_type_does_not_change_how_words_are_split(tmp_path: Path, family: str) -> None:
    """transformers 5 reads any qwen2 folder with Qwen2's own splitting, whatever class its tokenizer states."""
    saved(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    words = Tokenizer.load(str(tmp_path))
    assert words.encode_text("the cat") == [THE, CAT]
    assert words.vocab_size == tokenizer().vocab_size


def test_no_tokenizer_there(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError, match=r"tokenizer\.path: cannot read a tokenizer from .*no tokenizer\.json"
    ) as caught:
        Tokenizer.load(str(tmp_path))
    assert "\n" not in str(caught.value)


# --- padding -------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=7), max_size=5),
    st.sampled_from(["left", "right"]),
    st.integers(0, 9),
)
def test_pads_attended_as_prompt(rows: list[list[int]], side: str, pad_id: int) -> None:
    """Masks travel with the tokens and come from lengths: a pad id inside the text stays text."""
    token_BT, mask_BT = pad(rows, pad_id, side=side, length=8)  # type: ignore[arg-type]
    assert token_BT.shape == mask_BT.shape == (len(rows), 8)
    for row, tokens, mask in zip(rows, token_BT, mask_BT, strict=True):
        assert tokens[mask].tolist() == row
        edge = mask if side == "right" else mask[::-1]
        assert edge.tolist() == [True] * len(row) + [False] * (8 - len(row))


def test_a_row_too_long_to_pad() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        pad([[1, 2, 3]], 0, side="left", length=2)


def test_words_come_without_jax() -> None:
    code = "import sys, dar_jax.tokens, dar_jax.data; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
