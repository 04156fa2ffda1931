"""The scripted server's batches, through the openai SDK."""

import json

import openai
import pytest

from dar_jax.chat.scripted.batch_server import BatchBehaviour
from dar_jax.chat.scripted.server import ServerSettings, read_settings, serve


@pytest.fixture
def client():
    with serve() as server, openai.OpenAI(base_url=server.openai_url, api_key="none", max_retries=0) as client:
        yield client


def test_a_bad_question_is_a_row_with_its_status(client):
    row = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{}]}}
    file = client.files.create(file=("f.jsonl", json.dumps(row).encode() + b"\n"), purpose="batch")
    made = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"mine": "1"}
    )
    batch = client.batches.retrieve(made.id)
    (answer,) = client.files.content(batch.output_file_id).text.splitlines()
    assert (json.loads(answer)["custom_id"], json.loads(answer)["response"]["status_code"]) == ("a", 400)
    assert [each.metadata for each in client.batches.list().data] == [{"mine": "1"}]


def test_unknown_ids_are_404(client):
    for call in (
        lambda: client.batches.retrieve("b"),
        lambda: client.files.content("f"),
        lambda: client.batches.create(input_file_id="f", endpoint="/v1/chat/completions", completion_window="24h"),
        lambda: client.files.create(file=("f", b"{}"), purpose="fine-tune"),
    ):
        with pytest.raises((openai.NotFoundError, openai.BadRequestError)):
            call()


def test_settings_of_batches_from_the_command_line():
    settings = read_settings(["port=0", "batch={seconds: 2, ends: expired, faults: {missing: 0.1}}"])
    assert settings == ServerSettings(port=0, batch=BatchBehaviour(seconds=2, ends="expired", faults={"missing": 0.1}))
