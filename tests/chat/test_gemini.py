import asyncio
import json

import pytest

from dar_jax.chat.failures import NotAnAnswer, Rejected
from dar_jax.chat.gemini import GeminiWire, read_reply
from dar_jax.chat.keys import Key
from dar_jax.chat.scripted.server import serve
from dar_jax.chat.wire import Request
from dar_jax.errors import SettingError
from dar_jax.records import Message, Usage

NO_KEY = Key("")


def reply(candidate=None, **fields) -> str:
    return json.dumps(({"candidates": [candidate]} if candidate else {}) | {"modelVersion": "g-1"} | fields)


def text(*parts):
    return {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP"}


def test_an_answer_with_usage():
    usage = {"promptTokenCount": 9, "cachedContentTokenCount": 4, "candidatesTokenCount": 1, "thoughtsTokenCount": 30}
    answer = read_reply(reply(text({"text": "7"}), usageMetadata=usage), NO_KEY)
    assert (answer.choices[0].text, answer.choices[0].finish, answer.served_model) == ("7", "stop", "g-1")
    assert answer.usage == Usage(input_tokens=9, cached_tokens=4, output_tokens=31)


def test_thoughts_are_not_part_of_the_text():
    parts = ({"text": "Maybe 8.", "thought": True}, {"text": "7"})
    assert read_reply(reply(text(*parts)), NO_KEY).choices[0].text == "7"


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ("MAX_TOKENS", "length"),
        ("SAFETY", "blocked"),
        ("MODEL_ARMOR", "blocked"),
        ("OTHER", "unknown"),
        (None, "unknown"),
    ],
)
def test_only_stop_is_a_success(finish, expected):
    candidate = text({"text": "7"}) | {"finishReason": finish}
    assert read_reply(reply(candidate), NO_KEY).choices[0].finish == expected


def test_a_blocked_prompt_has_a_reason_and_no_choice():
    answer = read_reply(reply(promptFeedback={"blockReason": "SAFETY"}), NO_KEY)
    assert (answer.choices, answer.blocked) == ((), "SAFETY")


@pytest.mark.parametrize("body", ["", "<html>", "[]", "{}", '{"error": {"code": 500}}'])
def test_other_bodies_raise_not_an_answer(body):
    with pytest.raises(NotAnAnswer, match="no Gemini answer"):
        read_reply(body, NO_KEY)


def test_missing_usage_is_unknown():
    assert read_reply(reply(text({"text": "7"})), NO_KEY).usage is None


REQUEST = Request(
    messages=(Message(role="system", content="s"), Message(role="user", content="u")),
    max_tokens=8,
    temperature=1.0,
    n=4,
    seed=5,
    choices=("0", "1"),
)


def sent(sdk: str, **settings):
    async def ask(url: str):
        chat = GeminiWire(model="m", base_url=url, sdk=sdk, **settings).connect(1)
        try:
            with pytest.raises(Rejected, match="sealed"):
                await chat.ask(REQUEST, 5.0)
        finally:
            await chat.close()

    with serve() as server:
        asyncio.run(ask(server.url))
        (body,) = server.bodies.values()
    return body


def test_the_request_of_google_genai(monkeypatch):
    pytest.importorskip("google.genai")
    # None of these may send the question to another service.
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:9")
    body = sent("google-genai", api_version="v1", thinking_budget=0)
    config = body["generationConfig"]
    assert (config["seed"], config["candidateCount"], config["maxOutputTokens"]) == (5, 4, 8)
    assert config["responseSchema"]["properties"]["score"]["enum"] == ["0", "1"]
    assert list(config["thinkingConfig"].values()) == [0]
    assert body["systemInstruction"]["parts"] == [{"text": "s"}]
    assert {setting["threshold"] for setting in body["safetySettings"]} == {"BLOCK_NONE"}


def test_the_request_of_google_generativeai():
    pytest.importorskip("google.ai.generativelanguage")
    body = sent("google-generativeai")
    config = body["generationConfig"]
    assert (config["candidateCount"], config["maxOutputTokens"]) == (4, 8)
    assert config["responseSchema"]["properties"]["score"]["enum"] == ["0", "1"]
    assert body["systemInstruction"]["parts"] == [{"text": "s"}]
    assert len(body["safetySettings"]) == 4


def test_a_missing_sdk_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr("dar_jax.chat.gemini._installed", lambda module: False)
    for sdk, extra in (("auto", "gemini"), ("google-generativeai", "gemini-legacy")):
        with pytest.raises(SettingError, match=rf"pip install 'dar-jax\[{extra}\]'"):
            GeminiWire(model="m", base_url="http://127.0.0.1:9", sdk=sdk).connect(1)


def test_the_newer_sdk_is_preferred(monkeypatch):
    monkeypatch.setattr("dar_jax.chat.gemini._installed", lambda module: True)
    assert GeminiWire(model="m").identity()["sdk"] == "google-genai"
    monkeypatch.setattr("dar_jax.chat.gemini._installed", lambda module: "generativeai" in module)
    assert GeminiWire(model="m").identity()["sdk"] == "google-generativeai"
