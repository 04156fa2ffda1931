import json
import math

import pytest

from dar_jax.chat.failures import NotAnAnswer
from dar_jax.chat.openai_reply import read_reply
from dar_jax.records import Usage

USAGE = {"prompt_tokens": 9, "completion_tokens": 2}


def completion(message: object = None, **reply: object) -> dict[str, object]:
    choice = {"index": 0, "message": message or {"content": "7"}, "finish_reason": "stop"}
    return {"model": "m-1", "choices": [choice], "usage": USAGE} | reply


def logprobs(*tokens: str, text: str = "7", digit: str = "7"):
    """Return the alternatives of a reply with these tokens, each with the digit at probability 1/2 as alternative."""
    positions = [
        {"token": t, "logprob": math.log(0.5), "top_logprobs": [{"token": digit, "logprob": math.log(0.5)}]}
        for t in tokens
    ]
    choice = {"message": {"content": text}, "finish_reason": "stop", "logprobs": {"content": positions}}
    return read_reply(json.dumps({"choices": [choice]})).choices[0].top


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"choices": [{"message": {"content": 7}}]}, "choices.0.message.content: "),
        ({"choices": [{"message": {"content": [{"text": [7]}]}}]}, "choices.0.message.content.0.text: "),
        ({"choices": [{"message": None}]}, "choices.0.message: "),
        ({"choices": [{"delta": {"content": "7"}}]}, "choices.0.message: field required"),
        ({"choices": {"0": "7"}}, "choices: "),
        ({"choices": None}, "choices: "),
        ({"choices": [{"message": {"content": "7"}, "finish_reason": 1}]}, "choices.0.finish_reason: "),
    ],
)
def test_an_unreadable_completion_is_an_answer_with_the_wrong_field(changed, field):
    body = json.dumps(completion() | changed)
    answer = read_reply(body)
    assert answer.unreadable.startswith(field)
    assert (answer.choices, answer.served_model, answer.raw) == ((), "m-1", body)
    assert answer.usage == Usage(input_tokens=9, output_tokens=2)


def test_null_fields_are_accepted():
    parts = [{"type": "text", "text": None}, {"type": "text", "text": "7"}]
    answer = read_reply(json.dumps(completion({"content": parts}, usage=dict.fromkeys(USAGE), model=None)))
    assert (answer.choices[0].text, answer.usage, answer.unreadable) == ("7", None, "")
    assert read_reply(json.dumps(completion(model=5))).choices[0].text == "7"


@pytest.mark.parametrize(
    "body",
    [
        "<html>",
        '{"choices": ',
        '{"error": {"message": "overloaded"}}',
        '{"error": {"message": "overloaded"}, "choices": [], "usage": null}',
        '{"error": {"message": "overloaded"}, "choices": null, "usage": {}}',
        'data: {"error": {"message": "overloaded"}}\n\ndata: [DONE]',
    ],
)
def test_pages_and_errors_are_no_answers(body):
    with pytest.raises(NotAnAnswer):
        read_reply(body)


def test_the_last_event_with_choices_is_the_answer():
    events = [{"choices": []}, completion(usage=None), {"choices": [], "usage": USAGE}]
    body = ": hello\n\n" + "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    answer = read_reply(body)
    assert (answer.choices[0].text, answer.usage) == ("7", Usage(input_tokens=9, output_tokens=2))
    assert answer.raw == body


@pytest.mark.parametrize("digits", [30, 5000])
def test_huge_numbers_are_not_counts(digits):
    body = json.dumps(completion()).replace('"prompt_tokens": 9', f'"prompt_tokens": 1{"0" * digits}')
    answer = read_reply(body)
    assert (answer.choices[0].text, answer.usage) == ("7", None)


def test_lone_surrogates_do_not_lose_the_answer():
    answer = read_reply(json.dumps(completion({"content": "7", "refusal": None})).replace('"7"', r'"7 \ud83d"'))
    assert answer.choices[0].text == "7 ?"
    assert answer.to_json()


@pytest.mark.parametrize(
    "tokens",
    [
        ["7"],
        ["\n", " 7"],
        ["\u010a", "\u01207"],
        ["7", "<|im_end|>"],
        ["7", "\n", "</s>", ""],
        ["7", "<\uff5cend\u2581of\u2581sentence\uff5c>"],
        ["1", ".", " It", " is", " 3", "</think>", "\n\n", "7"],
    ],
)
def test_log_probabilities_are_those_of_the_answer_token(tokens):
    assert "7" in {alternative.token.strip(" \u0120") for alternative in logprobs(*tokens)}


@pytest.mark.parametrize(
    "tokens", [["1"], ["7", ".", " It", " is"], ["1", ".", "7", "</think>"], ["7", "8"], ["77"], ["", "\n"], ["7", ")"]]
)
def test_log_probabilities_of_other_tokens_are_ignored(tokens):
    """A server may list the thinking tokens: its first "1" is not the grade."""
    assert logprobs(*tokens) == ()


def test_a_digit_in_a_json_object_is_not_the_answer_token():
    assert logprobs("{", '"score"', ": ", "7", "}", text='{"score": 7}') == ()
