"""The server's side of OpenAI's and Gemini's protocols: requests parsed from JSON, answers written as JSON."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dar_jax.chat.wire import LOWEST_LOGPROB, Alternative, Answer, AnswerChoice, Finish, Request
from dar_jax.records import Message, Usage

_OPENAI_FINISH: Mapping[Finish, str] = {
    "stop": "stop",
    "length": "length",
    "refusal": "stop",
    "blocked": "content_filter",
    "unknown": "moon_phase",
}
_GEMINI_FINISH: Mapping[Finish, str] = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "refusal": "STOP",
    "blocked": "SAFETY",
    "unknown": "MOON_PHASE",
}
# The message of a content filter that refuses a request.
FILTERED = "the response was filtered due to the prompt triggering the content management policy"
_GRPC_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
_GRPC_STATUS |= {500: "INTERNAL", 503: "UNAVAILABLE"}


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One protocol, as functions from and to JSON.

    `read` raises ValueError, KeyError, TypeError or AttributeError if the JSON is not a request; `write` also takes the
    request's JSON, whose schema sets the format of the answer; `error` takes a status, a message and a delay.
    """

    read: Callable[[Any], Request]
    write: Callable[[Answer, Any], dict[str, Any]]
    error: Callable[[int, str, float | None], dict[str, Any]]


def _read_openai(body: Any) -> Request:
    schema = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")
    choices = _enum(schema) or tuple((body.get("structured_outputs") or {}).get("choice", ()))
    return Request(
        messages=tuple(Message(role=m["role"], content=m["content"]) for m in body["messages"]),
        max_tokens=body.get("max_tokens") or body.get("max_completion_tokens") or 1024,
        temperature=body.get("temperature"),
        n=body.get("n") or 1,
        seed=body.get("seed"),
        top_logprobs=body.get("top_logprobs") or 0 if body.get("logprobs") else 0,
        choices=choices,
    )


def _write_openai(answer: Answer, body: Any) -> dict[str, Any]:
    schema = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")
    ids = body.get("logprob_token_ids") or ()
    choices = [_openai_choice(choice, schema, ids) for choice in answer.choices]
    if answer.blocked:
        choices = [_openai_choice(AnswerChoice(text=None, finish="blocked", index=0), None)]
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 0,
        "model": answer.served_model,
        "choices": choices,
        "usage": _openai_usage(answer.usage or Usage()),
    }


def _openai_choice(choice: AnswerChoice, schema: Any, ids: Sequence[int] = ()) -> dict[str, Any]:
    refused = choice.finish == "refusal"
    message = {
        "role": "assistant",
        "content": None if refused else _closed(choice, schema),
        "refusal": choice.text if refused else None,
    }
    logprobs = None
    if choice.top:
        top = [{"token": t.token, "logprob": t.logprob, "bytes": None} for t in _listed_tokens(choice.top, ids)]
        chosen = next((each for each in top if each["token"] == choice.text), top[0])
        logprobs = {"content": [{**chosen, "top_logprobs": top}], "refusal": None}
    finish = _OPENAI_FINISH[choice.finish]
    return _index(choice) | {"message": message, "finish_reason": finish, "logprobs": logprobs}


def _listed_tokens(top: Sequence[Alternative], ids: Sequence[int]) -> Sequence[Alternative]:
    """Return the sampled token and exactly the requested tokens, as vLLM does; without ids the likeliest tokens."""
    if not ids:
        return top
    known = {alternative.token: alternative.logprob for alternative in top}
    requested = [Alternative(token=chr(i), logprob=known.get(chr(i), LOWEST_LOGPROB)) for i in ids]
    return [top[0], *(each for each in requested if each.token != top[0].token)]


def tokenized(body: Any) -> dict[str, Any]:
    """Return the response of vLLM's /tokenize: the scripted model's tokens are characters."""
    tokens = [ord(character) for character in body["prompt"]]
    return {"count": len(tokens), "max_model_len": 2**20, "tokens": tokens}


def _openai_usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _openai_error(status: int, message: str, retry_after_s: float | None) -> dict[str, Any]:
    code = "insufficient_quota" if "quota" in message else None
    error: dict[str, Any] = {"message": message, "type": "scripted", "param": None, "code": code}
    if message == FILTERED:
        # Azure's format.
        error |= {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}
    return {"error": error}


def _read_gemini(body: Any) -> Request:
    config = body.get("generationConfig") or {}
    system = body.get("systemInstruction") or {}
    messages = [Message(role="system", content=_parts(system))] if system else []
    messages += [Message(role=c.get("role") or "user", content=_parts(c)) for c in body["contents"]]
    return Request(
        messages=tuple(messages),
        max_tokens=config.get("maxOutputTokens") or 1024,
        temperature=config.get("temperature"),
        n=config.get("candidateCount") or 1,
        seed=config.get("seed"),
        top_logprobs=config.get("logprobs") or 0 if config.get("responseLogprobs") else 0,
        choices=_enum(config.get("responseSchema")),
    )


def _write_gemini(answer: Answer, body: Any) -> dict[str, Any]:
    schema = (body.get("generationConfig") or {}).get("responseSchema")
    usage = answer.usage or Usage()
    reply = {
        "candidates": [_gemini_candidate(choice, schema) for choice in answer.choices],
        "modelVersion": answer.served_model,
        "usageMetadata": {
            "promptTokenCount": usage.input_tokens,
            "candidatesTokenCount": usage.output_tokens,
            "totalTokenCount": usage.input_tokens + usage.output_tokens,
        },
    }
    return reply | ({"promptFeedback": {"blockReason": answer.blocked}} if answer.blocked else {})


def _gemini_candidate(choice: AnswerChoice, schema: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = _index(choice) | {"finishReason": _GEMINI_FINISH[choice.finish]}
    text = choice.text if choice.finish == "refusal" else _closed(choice, schema)
    if text is not None:
        candidate["content"] = {"role": "model", "parts": [{"text": text}]}
    if choice.top:
        # NaN is a string in the JSON of protocol buffers.
        top = [{"token": t.token, "logProbability": "NaN" if math.isnan(t.logprob) else t.logprob} for t in choice.top]
        candidate["logprobsResult"] = {"chosenCandidates": top[:1], "topCandidates": [{"candidates": top}]}
    return candidate


def _gemini_error(status: int, message: str, retry_after_s: float | None) -> dict[str, Any]:
    details: list[dict[str, Any]] = []
    if "quota" in message:
        violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}
        details.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]})
    if retry_after_s is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_after_s:g}s"})
    grpc = _GRPC_STATUS.get(status, "UNKNOWN")
    return {"error": {"code": status, "message": message, "status": grpc, "details": details}}


def _index(choice: AnswerChoice) -> dict[str, Any]:
    return {} if choice.index is None else {"index": choice.index}


def _parts(content: Any) -> str:
    return "".join(part.get("text", "") for part in content["parts"])


def _properties(schema: Any) -> dict[str, Any]:
    return dict((schema or {}).get("properties") or {})


def _enum(schema: Any) -> tuple[str, ...]:
    """Return the enum of a schema's first property."""
    for described in _properties(schema).values():
        return tuple(described.get("enum") or ())
    return ()


def _closed(choice: AnswerChoice, schema: Any) -> str | None:
    """Return a text in the format of the schema, if there is one."""
    names = list(_properties(schema))
    if not names or choice.text is None or choice.finish != "stop":
        return choice.text
    return json.dumps({names[0]: choice.text})


OPENAI = Dialect(read=_read_openai, write=_write_openai, error=_openai_error)
GEMINI = Dialect(read=_read_gemini, write=_write_gemini, error=_gemini_error)
