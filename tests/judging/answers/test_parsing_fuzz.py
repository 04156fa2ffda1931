"""No string makes a wrong reward: what is read is compared with an oracle that shares no code with the reader."""

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dar_jax.chat import gemini, openai_reply
from dar_jax.chat.failures import NotAnAnswer
from dar_jax.chat.keys import Key
from dar_jax.chat.wire import BLANK, Alternative, Answer, AnswerChoice
from dar_jax.judging.answers.parsing import Mode, Unusable, read
from dar_jax.judging.questions.protocol import Protocol
from dar_jax.records import Distribution

PROTOCOL = Protocol(rubric="r")
# What replies are made of, and what has been mistaken for a grade.
SHREDS = [
    "0",
    "1",
    "7",
    "9",
    "10",
    "07",
    "-",
    "+",
    ".",
    "/",
    "e0",
    " ",
    "\n",
    "\t",
    "\u00a0",
    "\u0667",
    "\uff17",
    "\u200b",
]
SHREDS += [
    '{"score": ',
    '"',
    "}",
    "{",
    "[",
    "]",
    ":",
    "score",
    "Score: 10",
    "null",
    "NaN",
    "**",
    "```json\n",
    "```",
    "\x00",
]
REPLIES = st.lists(st.sampled_from(SHREDS), max_size=6).map("".join) | st.text(max_size=20)


def oracle(text: str) -> set[float]:
    """Give the rewards that a reply may stand for: at most one, where it is a level and nothing else."""
    bare = text.strip(" \t\r\n")
    if bare in list("0123456789"):
        return {float(bare) + 1}
    try:
        pairs = json.loads(bare, object_pairs_hook=lambda pairs: pairs, parse_constant=str, parse_int=str)
    except ValueError:
        return set()
    whole = isinstance(pairs, list) and bare.startswith("{") and len(pairs) == 1
    key, value = pairs[0] if whole else ("", "")
    return {float(value) + 1} if key == "score" and isinstance(value, str) and value in list("0123456789") else set()


def certain(level: str) -> tuple[Alternative, ...]:
    return (Alternative(token=level, logprob=0.0),)


def answered(text: str | None, mode: Mode, top: tuple[Alternative, ...] | None) -> Distribution | Unusable:
    choice = AnswerChoice(text=text, finish="stop", finish_name="stop", top=top, index=0)
    return read(Answer(choices=(choice,), served_model="m"), PROTOCOL, mode, 0.5)


@settings(max_examples=600, deadline=None)
@given(REPLIES)
@example('{"score": "7"}')
@example('{"score": 7}')
@example('{"score": 7, "score": 9}')
@example('{"score": -0}')
@example('{"sc\\u006fre": 7}')
def test_a_reply_is_the_level_it_is_or_nothing(text):
    for mode in ("single", "samples"):
        found, allowed = answered(text, mode, None), oracle(text)
        assert isinstance(found, Unusable) or {found.mean} == allowed
    if text.strip(" \n\t") in list("0123456789"):
        assert isinstance(found, Distribution)


@settings(max_examples=300, deadline=None)
@given(REPLIES, st.lists(st.tuples(REPLIES, st.floats(-20, 0)), max_size=8))
def test_log_probabilities_count_for_the_level_alone(text, alternatives):
    top = tuple(Alternative(token=token, logprob=logprob) for token, logprob in alternatives)
    found = answered(text, "logprobs", top)
    mass = [0.0] * 10
    for token, logprob in alternatives:
        if token.strip(BLANK) in [str(level) for level in range(10)]:
            mass[int(token.strip(BLANK))] += math.exp(logprob)
    if isinstance(found, Distribution):
        assert oracle(text)
        assert sum(mass) >= 0.5
        assert found.mean == pytest.approx(sum((i + 1) * p for i, p in enumerate(mass)) / sum(mass))
    elif oracle(text) and text.strip() in list("0123456789"):
        other_tokens = text.strip() not in [token.strip(BLANK) for token, _ in alternatives]
        assert sum(mass) < 0.5 or other_tokens or sum(math.exp(logprob) for _, logprob in alternatives) > 1.0


def replied(protocol: str, text: Any, finish: Any) -> str:
    if protocol == "openai":
        return json.dumps({"choices": [{"index": 0, "message": {"content": text}, "finish_reason": finish}]})
    return json.dumps({"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": finish}]})


READERS = {"openai": openai_reply.read_reply, "gemini": lambda body: gemini.read_reply(body, Key(""))}
JSON = st.none() | st.booleans() | st.integers(-3, 12) | st.floats() | REPLIES
VALUES = st.recursive(JSON, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(REPLIES, inner, max_size=2))


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(list(READERS)), VALUES, st.sampled_from(["stop", "STOP", "length", "", "MOON", None, 7]))
def test_no_body_makes_a_wrong_reward(protocol, value, finish):
    """A body of any shape is an answer or `NotAnAnswer`; a reward comes of a whole level in a finished answer only."""
    try:
        answer = READERS[protocol](replied(protocol, value, finish))
    except NotAnAnswer:
        return
    found = read(answer, PROTOCOL, "single", 0.5)
    if isinstance(found, Distribution):
        assert finish == ("stop" if protocol == "openai" else "STOP")
        assert isinstance(value, str)
        assert {found.mean} == oracle(value)


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(list(READERS)), st.binary(max_size=60) | REPLIES.map(str.encode), st.integers(0, 120))
def test_no_damaged_body_makes_a_reward(protocol, inserted, at):
    """Bytes put into an answer of 7 leave it 7, or make it nothing: never another level."""
    body = replied(protocol, "7", "stop" if protocol == "openai" else "STOP").encode()
    try:
        answer = READERS[protocol]((body[:at] + inserted + body[at:]).decode("utf-8", "replace"))
    except NotAnAnswer:
        return
    found = read(answer, PROTOCOL, "single", 0.5)
    texts = [choice.text for choice in answer.choices]
    assert isinstance(found, Unusable) or {found.mean} == oracle(texts[0])


@pytest.mark.parametrize("protocol", READERS)
def test_half_of_an_answer_is_none(protocol):
    body = replied(protocol, "7", "stop" if protocol == "openai" else "STOP")
    for end in range(len(body)):
        with pytest.raises(NotAnAnswer):
            READERS[protocol](body[:end])
