"""Ends of turns that are plain tokens, templates that leave a turn closed, and policies that think, as Qwen3 does."""

import json
from pathlib import Path
from typing import Any

import pytest

from dar_jax.errors import SettingError
from dar_jax.records import Message, Prompt
from dar_jax.tokens import Tokenizer, TokenizerSettings
from tests.small_tokenizers import (
    IM_TEMPLATE,
    OPEN_THOUGHT_TEMPLATE,
    QWEN3_TEMPLATE,
    SPECIAL,
    TOOLS_TEMPLATE,
    hf,
    tokenizer,
)

EOS, IM_END = SPECIAL.index("</s>"), SPECIAL.index("<|im_end|>")
TALK = Prompt(id=0, text="the cat", messages=(Message(role="user", content="the cat"),))
MARKS = ("<think>", "</think>")


def qwen3(template: str = QWEN3_TEMPLATE, plain: tuple[str, ...] = MARKS, **settings: Any) -> Tokenizer:
    return Tokenizer(hf(template=template, plain=plain), where="small Qwen3", **settings)


def test_an_end_of_turn_that_is_not_flagged_special_ends_a_completion(tmp_path: Path) -> None:
    words = tokenizer(template=IM_TEMPLATE, plain=("<|im_start|>", "<|im_end|>"))
    assert words.turn_end_id == IM_END
    assert words.eos_ids == {EOS, IM_END}
    assert words.encode_completion("the cat", conversation=True)[-1] == IM_END
    assert words.decode([*words.encode_text("the cat"), IM_END]) == "the cat"
    words.save(tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == [EOS, IM_END]
    assert words.doubts() == []


def test_a_template_that_ends_no_turn_by_one_token_is_told_once_and_further_ends_can_be_named(tmp_path: Path) -> None:
    words = tokenizer(template=IM_TEMPLATE.replace("<|im_end|>", " the end"))
    assert words.turn_end_id is None
    (doubt,) = words.doubts()
    assert "ends no turn with one token of its own; only </s> will end" in doubt
    assert "tokenizer.also_ends" in doubt
    hf(template=IM_TEMPLATE).save_pretrained(str(tmp_path))
    opened = TokenizerSettings(chat_template="none", also_ends=("<|im_end|>",)).open(str(tmp_path))
    assert opened.eos_ids == {EOS, IM_END}
    with pytest.raises(SettingError, match=r"^tokenizer\.also_ends: 'the cat' is 2 tokens in "):
        TokenizerSettings(also_ends=("the cat",)).open(str(tmp_path))


def test_a_template_without_add_generation_prompt_is_told_and_mistrals_way_is_not() -> None:
    closed = IM_TEMPLATE[: IM_TEMPLATE.index("{% if add_generation_prompt")]
    (doubt,) = tokenizer(template=closed).doubts()
    assert "ignores add_generation_prompt" in doubt
    mistral = (
        "{% for message in messages %}{% if message.role == 'user' %}<|im_start|> {{ message.content }} <s>"
        "{% else %} {{ message.content }}</s>{% endif %}{% endfor %}"
    )
    assert tokenizer(template=mistral).doubts() == []


@pytest.mark.parametrize(
    ("template", "arguments", "opened"),
    [
        (QWEN3_TEMPLATE, {}, False),
        (QWEN3_TEMPLATE, {"enable_thinking": True}, False),
        (QWEN3_TEMPLATE, {"enable_thinking": False}, False),
        (OPEN_THOUGHT_TEMPLATE, {}, True),
        (IM_TEMPLATE, {}, False),
    ],
)
def test_whether_a_prompt_opens_a_thought_is_seen_in_what_the_template_writes(
    template: str, arguments: dict[str, Any], opened: bool
) -> None:
    words = qwen3(template, template_arguments=arguments)
    assert words.opens_thought(TALK) is opened
    assert words.turn_end_id == IM_END
    quoting = Prompt(id=0, text="", messages=(Message(role="user", content="what does <think> do"),))
    assert words.opens_thought(quoting) is opened


def test_a_bare_prompt_opens_a_thought_where_it_ends_with_the_mark() -> None:
    assert qwen3().opens_thought(Prompt(id=0, text="the cat <think>\n"))
    assert not qwen3().opens_thought(Prompt(id=0, text="<think> the </think> cat"))


@pytest.mark.parametrize("special", [False, True])
def test_the_marks_of_a_thought_stay_in_the_text(special: bool) -> None:
    built = hf(template=QWEN3_TEMPLATE, plain=MARKS)
    if special:
        built.add_special_tokens({"additional_special_tokens": list(MARKS)})
    words = Tokenizer(built, where="small Qwen3")
    ids = words.encode_text("<think> the cat </think> a dog")
    assert words.decode([*ids, IM_END]).replace(" ", "") == "<think>thecat</think>adog"


def test_a_policy_without_marks_has_no_thoughts() -> None:
    assert tokenizer(template=IM_TEMPLATE).template.thought_end == ""
    assert qwen3(IM_TEMPLATE).template.thought_end == "</think>"  # its vocabulary has it
    assert tokenizer(template=QWEN3_TEMPLATE).template.thought_end == "</think>"


# --- what a row has for the template -------------------------------------------------------------

CALLS = ({"type": "function", "function": {"name": "dog", "arguments": {}}},)
USED = Prompt(
    id=0,
    text="",
    messages=(Message(role="user", content="the cat"), Message(role="assistant", content="[]"), *TALK.messages),
    turns=(
        {"role": "user", "content": "the cat"},
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "user", "content": "the cat"},
    ),
    tools=({"name": "mat"},),
)


def test_tools_and_tool_calls_reach_the_template_or_are_refused_by_name() -> None:
    words = tokenizer(template=TOOLS_TEMPLATE)
    text = words._prompt_text(USED, None)
    assert '<|im_start|>system\n{"name": "mat"}\n<|im_end|>' in text
    assert "<|im_start|>assistant\ndog<|im_end|>" in text
    deaf = tokenizer(template=IM_TEMPLATE)
    with pytest.raises(SettingError, match=r"^tool_calls: a message has it, .* does not read it"):
        deaf.encode_prompt(USED)
    with pytest.raises(SettingError, match=r"^tools: the row has it, .* does not read it"):
        deaf.encode_prompt(Prompt(id=0, text="", messages=TALK.messages, tools=USED.tools))
    with pytest.raises(SettingError, match=r"^tools: the prompt is a string"):
        words.encode_prompt(Prompt(id=0, text="the cat", tools=USED.tools))


def test_a_rows_template_arguments_go_before_the_settings() -> None:
    words = qwen3(template_arguments={"enable_thinking": True})
    quiet = Prompt(id=0, text="", messages=TALK.messages, template_arguments={"enable_thinking": False})
    assert words._prompt_text(quiet, None).endswith("<think>\n\n</think>\n\n")
    assert "<think>" not in words._prompt_text(TALK, None)
    odd = Prompt(id=0, text="", messages=TALK.messages, template_arguments={"tokenize": True})
    with pytest.raises(SettingError, match=r"^tokenize: the row has it"):
        words.encode_prompt(odd)
