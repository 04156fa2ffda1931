import asyncio
import json

import pytest

from dar_jax.chat.decisions import read_listed, read_mapped
from dar_jax.chat.envelope import seal
from dar_jax.chat.failures import NotAnAnswer, Unsupported
from dar_jax.chat.gemini import GeminiWire
from dar_jax.chat.openai import VENDOR_URL, OpenAIWire
from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.chat.wire import Level, Request, Score
from dar_jax.records import Message, Usage

LEVELS = (Level(label="0", description="worst"), Level(label="1"), Level(label="2", description="best"))
SCORES = tuple(Score(name=name, instructions=f"How {name}?", levels=LEVELS) for name in ("clear", "true"))
DATA = seal({"prompt": "p", "completion": "Words of a completion."}, ())
REQUEST = Request(messages=(Message(role="user", content=DATA),), max_tokens=2, scores=SCORES)


def listed(*answers, **reply) -> str:
    return json.dumps({"answers": list(answers), "model": "m-1"} | reply)


def score(name, shares=(0.1, 0.2, 0.7), labels=("0", "1", "2")):
    probabilities = [{"label": label, "probability": p} for label, p in zip(labels, shares, strict=True)]
    return {"type": "score", "name": name, "confidence": 0.9, "score": 7.0, "probabilities": probabilities}


def mapped(reply=None, **answers) -> str:
    plain = {
        name: {"type": "score", "confidence": 0.02, "score": 9.0, "probabilities": shares} if shares else {"type": "x"}
        for name, shares in answers.items()
    }
    return json.dumps({"answers": plain, "model": "m-1"} | (reply or {}))


BOTH = {"0": 0.1, "1": 0.2, "2": 0.7}


def test_openais_answers_are_matched_by_name():
    """Names and labels decide, not positions (as in ART RULER)."""
    usage = {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 0}
    other = score("clear", (0.5, 0.5, 0.0), ("2", "1", "0"))
    answer = read_listed(listed(score("true"), other, usage=usage), REQUEST)
    assert [choice.probabilities for choice in answer.choices] == [(0.0, 0.5, 0.5), (0.1, 0.2, 0.7)]
    assert [choice.text for choice in answer.choices] == ["1", "2"]
    assert (answer.served_model, answer.usage) == ("m-1", Usage(input_tokens=9, cached_tokens=4))


@pytest.mark.parametrize(
    ("answers", "finish"),
    [
        ([{"type": "refusal", "name": "clear"}], "refusal"),
        ([{"type": "choice", "name": "clear", "probabilities": [{"value": "x", "probability": 1.0}]}], "unknown"),
        ([score("clear"), score("clear")], "unknown"),
        ([score("other")], "unknown"),
        ([score("clear", labels=("0", "1", "1"))], "stop"),
        ([score("clear", labels=("0", "1", "9"))], "stop"),
        ([score("clear", shares=(0.5, -0.1, 0.6))], "stop"),
        ([score("clear", shares=(0.5, 40.0, 0.6))], "stop"),
        ([score("clear", shares=(float("nan"), 0.5, 0.5))], "stop"),
    ],
)
def test_an_answer_with_wrong_levels_does_not_count(answers, finish):
    first, second = read_listed(listed(*answers, score("true")), REQUEST).choices
    assert (first.finish, first.probabilities) == (finish, None)
    assert second.probabilities == (0.1, 0.2, 0.7)


def test_indices_and_label_mass():
    reply = {"diagnostics": {"true": {"label_mass": 0.5}}, "usage": {"input_tokens": 7, "output_tokens": 2}}
    answer = read_mapped(mapped(reply, clear={"2": 0.7, "0": 0.1, "1": 0.2}, true=BOTH), REQUEST)
    assert answer.choices[0].probabilities == (0.1, 0.2, 0.7)
    assert answer.choices[1].probabilities == pytest.approx((0.05, 0.1, 0.35))
    assert answer.usage == Usage(input_tokens=7, output_tokens=2)


@pytest.mark.parametrize("shares", [{"0": 0.5, "1": 0.5}, BOTH | {"3": 0.0}, {"a": 1.0, "b": 0.0, "c": 0.0}, None])
def test_unknown_levels_are_no_answer(shares):
    answer = read_mapped(mapped(clear=shares, true=BOTH), REQUEST)
    assert answer.choices[0].probabilities is None
    assert answer.choices[1].probabilities == (0.1, 0.2, 0.7)


def test_a_missing_question_is_no_answer():
    answer = read_mapped(mapped(true=BOTH), REQUEST)
    assert [choice.finish for choice in answer.choices] == ["unknown", "stop"]


def test_gemini_feedback_is_a_block_and_its_usage_has_other_names():
    usage = {"total_input_tokens": 9, "total_cached_tokens": 4, "total_output_tokens": 1, "total_thought_tokens": 3}
    body = json.dumps({"prompt_feedback": {"block_reason": "safety"}, "usage": usage})
    answer = read_mapped(body, REQUEST)
    assert (answer.choices, answer.blocked) == ((), "safety")
    assert answer.usage == Usage(input_tokens=9, cached_tokens=4, output_tokens=4)


@pytest.mark.parametrize("body", ["", "<html>", "[]", '"7"', "{}", '{"error": {"message": "x"}}', '{"answers": 3}'])
@pytest.mark.parametrize("read", [read_listed, read_mapped])
def test_other_bodies_raise_not_an_answer(read, body):
    with pytest.raises(NotAnAnswer, match="no decision"):
        read(body, REQUEST)


def ask(wire, server):
    async def once():
        chat = wire.connect(1)
        try:
            return await chat.ask(REQUEST, 5.0)
        finally:
            await chat.close()

    answer = asyncio.run(once())
    (body,) = server.bodies.values()
    return answer, body


def test_the_request_of_openais_decisions():
    with serve() as server:
        wire = OpenAIWire(model="m", base_url=server.openai_url, decisions="decisions", extra_body={"top_k": 1})
        answer, body = ask(wire, server)
    assert body["input"] == DATA
    assert (body["model"], body["top_k"]) == ("m", 1)
    assert [question["name"] for question in body["questions"]] == ["clear", "true"]
    assert body["questions"][0]["levels"] == [
        {"label": "0", "description": "worst"},
        {"label": "1"},
        {"label": "2", "description": "best"},
    ]
    assert sum(answer.choices[0].probabilities) == pytest.approx(1.0)


def test_the_request_of_systemone():
    with serve() as server:
        _, body = ask(OpenAIWire(model="m", base_url=server.openai_url), server)
    assert body["state"] == DATA
    assert body["questions"]["true"] == {
        "type": "score",
        "instructions": "How true?",
        "criteria": ["0: worst", "1", "2: best"],
    }


def test_the_request_of_google_genai(monkeypatch):
    pytest.importorskip("google.genai")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:9")
    with serve() as server:
        _, body = ask(GeminiWire(model="m", base_url=server.url, sdk="google-genai"), server)
    assert (body["input"], body["model"]) == (DATA, "m")
    assert body["questions"]["true"]["criteria"] == ["0: worst", "1", "2: best"]


def test_the_sdks_retries_of_decisions_are_off():
    """google-genai retries decisions four times by default, which would multiply with our retries."""
    pytest.importorskip("google.genai")
    with serve(ServerSettings(port=0, faults={"server_error": 1.0})) as server:
        with pytest.raises(Exception, match="HTTP 500"):
            ask(GeminiWire(model="m", base_url=server.url, sdk="google-genai"), server)
        assert server.asked.total() == 1


def test_the_discontinued_sdk_has_no_decisions():
    pytest.importorskip("google.ai.generativelanguage")
    with serve() as server, pytest.raises(Unsupported, match=r"judge\.sdk=google-genai"):
        ask(GeminiWire(model="m", base_url=server.url, sdk="google-generativeai"), server)


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({}, "decisions"),
        ({"base_url": VENDOR_URL, "decisions": "systemone"}, "systemone"),
        ({"base_url": "http://h/v1"}, "systemone"),
        ({"base_url": "http://h/v1", "decisions": "decisions"}, "decisions"),
    ],
)
def test_the_protocol_follows_the_address_unless_set(settings, path):
    wire = OpenAIWire(model="m", **settings)
    assert wire.decisions_path == path
    assert ("decisions" in wire.identity()) == ("decisions" in settings)
