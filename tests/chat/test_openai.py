import asyncio
import json
import math

import pytest
from openai import AsyncOpenAI

from dar_jax.chat.envelope import seal
from dar_jax.chat.failures import NotAnAnswer, Rejected, Unsupported
from dar_jax.chat.openai import OpenAIWire
from dar_jax.chat.openai_batches import OpenAIBatches
from dar_jax.chat.openai_reply import read_reply
from dar_jax.chat.scripted import dialects
from dar_jax.chat.scripted.server import serve
from dar_jax.chat.wire import Request
from dar_jax.records import Message, Usage


def body(message, finish="stop", logprobs=None, **reply) -> str:
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": logprobs}
    return json.dumps({"id": "x", "object": "chat.completion", "model": "m-1", "choices": [choice]} | reply)


def token(text: str, p: float, top: dict[str, float]):
    others = [{"token": t, "logprob": math.log(q), "bytes": None} for t, q in top.items()]
    return {"token": text, "logprob": math.log(p), "bytes": None, "top_logprobs": others}


def test_an_answer_with_usage():
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    answer = read_reply(body({"role": "assistant", "content": "7"}, usage=usage))
    assert (answer.choices[0].text, answer.choices[0].finish, answer.served_model) == ("7", "stop", "m-1")
    assert answer.usage == Usage(input_tokens=9, cached_tokens=4, output_tokens=2)


def test_missing_usage_is_unknown():
    assert read_reply(body({"content": "7"})).usage is None
    assert read_reply(body({"content": "7"}, usage=None)).usage is None
    assert read_reply(body({"content": "7"}, usage={"prompt_tokens": 1, "prompt_tokens_details": None})).usage is None


def test_a_reasoning_judges_first_block_is_not_text():
    """As in strands-env PR 206."""
    blocks = [{"type": "thinking", "thinking": "8?"}, {"type": "text", "text": "7"}]
    assert read_reply(body({"content": blocks})).choices[0].text == "7"


@pytest.mark.parametrize(
    ("message", "finish", "expected"),
    [
        ({"content": None, "refusal": "No."}, "stop", "refusal"),
        ({"content": None}, "content_filter", "blocked"),
        ({"content": "7"}, "length", "length"),
        ({"content": "7"}, "tool_calls", "unknown"),
        ({"content": "7"}, None, "unknown"),
    ],
)
def test_only_stop_is_a_success(message, finish, expected):
    assert read_reply(body(message, finish)).choices[0].finish == expected


def test_the_answer_token_is_not_white_space():
    logprobs = {"content": [token("\n", 0.9, {"\n": 0.9}), token("7", 0.5, {"7": 0.5, "8": 0.4})]}
    top = read_reply(body({"content": "\n7"}, logprobs=logprobs)).choices[0].top
    assert {t.token: pytest.approx(math.exp(t.logprob)) for t in top} == {"7": 0.5, "8": 0.4}


def test_a_chosen_token_outside_the_top_is_counted():
    logprobs = {"content": [token("7", 0.01, {"8": 0.9})]}
    top = read_reply(body({"content": "7"}, logprobs=logprobs)).choices[0].top
    assert {t.token for t in top} == {"7", "8"}


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}])
def test_missing_log_probabilities_are_none(logprobs):
    assert read_reply(body({"content": "7"}, logprobs=logprobs)).choices[0].top is None


def test_a_probability_of_zero_is_not_an_error():
    text = body({"content": "7"}, logprobs={"content": [token("7", 1.0, {})]}).replace(
        '"logprob": 0.0', '"logprob": -Infinity'
    )
    assert math.exp(read_reply(text).choices[0].top[0].logprob) == 0.0


@pytest.mark.parametrize("value", ["NaN", "Infinity", "5.0", "null"])
def test_an_impossible_log_probability_is_probability_0(value):
    certain = body({"content": "7"}, logprobs={"content": [token("7", 1.0, {})]})
    top = read_reply(certain.replace('"logprob": 0.0', f'"logprob": {value}')).choices[0].top
    assert math.exp(top[0].logprob) == 0.0


@pytest.mark.parametrize("text", ["", "<html>", "[]", '"7"', "{}", '{"error": {"message": "x"}}', '{"choices": null}'])
def test_other_bodies_raise_not_an_answer(text):
    with pytest.raises(NotAnAnswer, match="no chat completion"):
        read_reply(text)


REQUEST = Request(
    messages=(Message(role="system", content="s"), Message(role="user", content="u")),
    max_tokens=8,
    temperature=0.0,
    choices=("0", "1"),
)


@pytest.mark.parametrize(
    ("settings", "top_logprobs", "sent"),
    [
        ({}, 0, {"max_tokens", "temperature", "response_format"}),
        ({}, 5, {"max_tokens", "temperature", "logprobs", "top_logprobs"}),
        ({"closed": "off"}, 0, {"max_tokens", "temperature"}),
        (
            {"closed": "structured_outputs"},
            5,
            {"max_tokens", "temperature", "logprobs", "top_logprobs", "structured_outputs"},
        ),
        ({"token_limit": "max_completion_tokens", "closed": "off"}, 0, {"max_completion_tokens", "temperature"}),
        (
            {"reasoning_effort": "none", "extra_body": {"top_k": 1}, "closed": "off"},
            0,
            {"max_tokens", "temperature", "reasoning_effort", "top_k"},
        ),
    ],
)
def test_the_request_body(settings, top_logprobs, sent):
    async def ask(url: str):
        chat = OpenAIWire(model="m", base_url=url, **settings).connect(1)
        request = Request(**(vars(REQUEST) | {"top_logprobs": top_logprobs}))
        try:
            # The scripted model rejects a message that is not sealed, but the request has arrived.
            with pytest.raises(Rejected, match="sealed"):
                await chat.ask(request, 5.0)
        finally:
            await chat.close()

    with serve() as server:
        asyncio.run(ask(server.openai_url))
        (body,) = server.bodies.values()
    assert set(body) == sent | {"model", "messages"}
    assert body["messages"] == [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]


def test_off_may_be_unquoted_in_yaml():
    """YAML reads a bare `off` as False."""
    assert OpenAIWire(model="m", closed=False) == OpenAIWire(model="m", closed="off")
    with pytest.raises(ValueError, match="json_schema"):
        OpenAIWire(model="m", closed=True)


def exact(server, **request):
    sealed = Message(role="user", content=seal({"prompt": "p", "completion": "Words."}, ("0", "1", "2")))
    asked = Request(messages=(sealed,), max_tokens=8, temperature=0.0, choices=("0", "1", "2"), **request)

    async def twice():
        chat = OpenAIWire(model="m", base_url=server.openai_url, exact_digits=True).connect(1)
        try:
            return [await chat.ask(asked, 5.0) for _ in range(2)]
        finally:
            await chat.close()

    return asyncio.run(twice())


def test_exact_digits_request_the_tokens_of_the_choices_only(monkeypatch):
    tokenized = []
    monkeypatch.setattr(
        "dar_jax.chat.scripted.server.tokenized", lambda body: tokenized.append(body) or dialects.tokenized(body)
    )
    with serve() as server:
        (answer, _) = exact(server, top_logprobs=20)
        (body,) = server.bodies.values()
    assert body["logprob_token_ids"] == [48, 49, 50]
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)
    assert {alternative.token for alternative in answer.choices[0].top} == {"0", "1", "2"}
    assert [each["prompt"] for each in tokenized] == ["0", "1", "2"], "requested once for all questions"
    assert not any(each["add_special_tokens"] for each in tokenized)


def test_exact_digits_are_not_sent_without_log_probabilities():
    with serve() as server:
        exact(server)
        (body,) = server.bodies.values()
    assert "logprob_token_ids" not in body


@pytest.mark.parametrize(
    ("tokens", "error", "told"),
    [
        ({"tokens": [1, 2]}, Unsupported, r"writes '0' as 2 tokens; leave judge\.exact_digits out"),
        ({"tokens": [7]}, Unsupported, "two of 0, 1, 2 alike"),
        ({"count": 1}, NotAnAnswer, "no tokens"),
    ],
)
def test_digits_that_are_not_single_tokens_are_an_error(monkeypatch, tokens, error, told):
    monkeypatch.setattr("dar_jax.chat.scripted.server.tokenized", lambda body: tokens)
    with serve() as server, pytest.raises(error, match=told):
        exact(server, top_logprobs=20)


def test_exact_digits_are_part_of_the_identity_only_if_set():
    assert OpenAIWire(model="m", exact_digits=True).identity()["exact_digits"] is True
    assert "exact_digits" not in OpenAIWire(model="m").identity()


def test_other_exceptions_become_rejected(monkeypatch):
    async def ask():
        chat = OpenAIWire(model="m", base_url="http://127.0.0.1:9/v1").connect(1)
        monkeypatch.setattr("dar_jax.chat.openai.chat_body", lambda settings, request: {"model": object()})
        try:
            await chat.ask(REQUEST, 5.0)
        finally:
            await chat.close()

    with pytest.raises(Rejected, match="the request could not be sent: TypeError"):
        asyncio.run(ask())


def sent_headers(wire):
    """Return the headers of a request, with lower-case names."""
    chat = wire.connect(1)
    asyncio.run(chat.close())
    return {name.lower(): value for name, value in chat._sender._headers.items()}


@pytest.fixture
def openai_environment(monkeypatch):
    """Set the environment variables of an OpenAI user."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-vendor")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Api-Key: planted-gateway-key\nAuthorization: Bearer planted")


def test_requests_to_the_vendor_have_the_sdks_headers(openai_environment):
    """Also the key, the organisation and the SDK's version."""
    headers = sent_headers(OpenAIWire(model="m"))
    assert headers["authorization"] == "Bearer sk-vendor"
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj-1")
    assert headers["x-api-key"] == "planted-gateway-key"
    assert headers["user-agent"] == AsyncOpenAI(api_key="sk-1").user_agent


def test_headers_from_the_environment_are_redacted(openai_environment):
    told = "401: X-Api-Key planted-gateway-key is unknown"
    assert OpenAIWire(model="m").credentials().redact(told) == "401: X-Api-Key *** is unknown"
    elsewhere = OpenAIWire(model="m", base_url="http://127.0.0.1:9/v1")
    assert elsewhere.credentials().redact(told) == told


def test_headers_from_the_environment_are_sent_to_the_vendor_only(openai_environment):
    headers = sent_headers(OpenAIWire(model="m", base_url="http://127.0.0.1:9/v1"))
    assert "planted" not in str(headers)
    assert "sk-vendor" not in str(headers)
    assert not [name for name in headers if name.startswith("openai-")]


def test_headers_of_a_gateway_come_from_the_settings(openai_environment, monkeypatch, tmp_path):
    monkeypatch.setenv("AZURE_KEY", "azure-key-1234")
    file = tmp_path / "headers"
    file.write_text("# of the gateway\nx-portkey-config: pc-12345678\n")
    wire = OpenAIWire(
        model="m", base_url="http://127.0.0.1:9/v1", headers_env={"api-key": "AZURE_KEY"}, headers_file=file
    )
    headers = sent_headers(wire)
    assert (headers["api-key"], headers["x-portkey-config"]) == ("azure-key-1234", "pc-12345678")
    assert "azure-key-1234" not in repr(wire) + repr(wire.credentials())


def test_batches_send_headers_from_the_environment_to_the_vendor_only(openai_environment):
    client = OpenAIBatches(OpenAIWire(model="m", base_url="http://127.0.0.1:9/v1"))._client
    asyncio.run(client.close())
    assert "planted" not in str(client.default_headers)
    assert (client.organization, client.project) == (None, None)
