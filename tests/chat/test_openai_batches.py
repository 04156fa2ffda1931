import json

import pytest

from dar_jax.chat.openai_batches import read_row
from dar_jax.chat.wire import Answer
from dar_jax.records import Usage

USAGE = {"prompt_tokens": 9, "completion_tokens": 2}
BODY = {"model": "m-1", "choices": [{"index": 0, "message": {"content": "7"}, "finish_reason": "stop"}], "usage": USAGE}


def row(body, status=200, **fields):
    line = {"id": "b", "custom_id": "q", "response": {"status_code": status, "body": body}, "error": None} | fields
    name, said = read_row(json.dumps(line))
    assert name == "q"
    return said


@pytest.mark.parametrize("body", [BODY | {"choices": [{"message": {"content": 7}}]}, {"usage": USAGE}])
def test_an_unreadable_row_is_a_billed_answer(body):
    said = row(body)
    assert isinstance(said, Answer)
    assert (said.choices, said.usage) == ((), Usage(input_tokens=9, output_tokens=2))
    assert said.unreadable.startswith("choices")
    assert json.loads(said.raw) == body


@pytest.mark.parametrize("body", [BODY, json.dumps(BODY)])
@pytest.mark.parametrize("fields", [{"error": "none"}, {"error": {}}, {"status": 200}])
def test_odd_fields_of_a_row_do_not_lose_its_answer(body, fields):
    said = row(body, status=fields.pop("status", "200"), **fields)
    assert isinstance(said, Answer)
    assert said.choices[0].text == "7"


def test_a_filters_400_is_an_answer():
    said = row({"error": {"code": "content_filter", "message": "the prompt was filtered"}}, status=400)
    assert isinstance(said, Answer)
    assert said.blocked == "content_filter: HTTP 400: content_filter: the prompt was filtered"


@pytest.mark.parametrize(
    ("body", "status"), [({"error": {"code": "server_error", "message": "m"}}, 500), ("<html>", 200), (None, 200)]
)
def test_an_error_row_has_no_answer(body, status):
    assert isinstance(row(body, status), str)
