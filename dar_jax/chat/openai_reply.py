"""The reply of a chat completion: read whole, or kept as an answer that says which field could not be read.

Read by a model of our own, not by the SDK's: the SDK returns a page of HTML as a plain string, and objects with fields
missing as if they were whole. What is JSON of a completion is billed, so it is an answer whether it can be read or not.
"""

from collections.abc import Mapping
from typing import Any

import pydantic
from pydantic import TypeAdapter

from dar_jax.chat import usage
from dar_jax.chat.failures import Blocked, NotAnAnswer
from dar_jax.chat.json_body import Misfit, read_by
from dar_jax.chat.status import short
from dar_jax.chat.wire import Alternative, Answer, AnswerChoice, Finish, alternative, answer_token

_FINISH: Mapping[str | None, Finish] = {"stop": "stop", "length": "length", "content_filter": "blocked"}


@pydantic.dataclasses.dataclass(frozen=True)
class _Token:
    token: str
    logprob: float | None = None
    top_logprobs: list["_Token"] | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _Logprobs:
    content: list[_Token] | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _Part:
    type: str = "text"
    text: str | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _Message:
    content: str | list[_Part] | None = None
    refusal: str | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _Choice:
    message: _Message
    finish_reason: str | None = None
    index: int | None = None
    logprobs: _Logprobs | None = None


@pydantic.dataclasses.dataclass(frozen=True)
class _Reply:
    choices: list[_Choice]
    model: Any = None
    usage: Any = None
    error: Any = None


_REPLY = TypeAdapter(_Reply)


def read_reply(body: str) -> Answer:
    """Return the answer in the body of a chat completion. Raises NotAnAnswer where it is none, billed or not."""
    reply = read_by(_REPLY, body, "choices")
    if isinstance(reply, Misfit):
        return _unreadable(reply, body)
    if reply.error and not (reply.choices or reply.usage):
        raise _no_completion(body)
    used = usage.of_completion(reply.usage)
    return Answer(
        choices=tuple(_choice(choice) for choice in reply.choices),
        served_model=_name(reply.model),
        usage=used.usage,
        remark=used.remark,
        raw=body,
    )


def blocked_answer(stopped: Blocked) -> Answer:
    """Return the answer of a server whose filter refuses the request itself."""
    return Answer(choices=(), served_model="", blocked=str(stopped), raw=stopped.body)


def _unreadable(reply: Misfit, body: str) -> Answer:
    """Return a completion that cannot be read as an answer: it is billed. Raises NotAnAnswer where it is none."""
    if not _is_completion(reply.found):
        raise _no_completion(body)
    used = usage.of_completion(reply.found.get("usage"))
    return Answer(
        choices=(),
        served_model=_name(reply.found.get("model")),
        usage=used.usage,
        remark=used.remark,
        unreadable=reply.fault,
        raw=body,
    )


def _is_completion(found: Mapping[str, Any]) -> bool:
    if found.get("error"):
        return bool(found.get("choices") or found.get("usage"))
    return found.get("choices") is not None or found.get("usage") is not None


def _no_completion(body: str) -> NotAnAnswer:
    return NotAnAnswer(f"HTTP 200, but no chat completion: {short(body)!r}")


def _name(model: object) -> str:
    return model if isinstance(model, str) else ""


def _choice(choice: _Choice) -> AnswerChoice:
    if choice.message.refusal:
        return AnswerChoice(text=choice.message.refusal, finish="refusal", finish_name="refusal", index=choice.index)
    return AnswerChoice(
        text=_text(choice.message.content),
        finish=_FINISH.get(choice.finish_reason, "unknown"),
        finish_name=str(choice.finish_reason),
        top=_top(choice),
        index=choice.index,
    )


def _text(content: str | list[_Part] | None) -> str | None:
    # Reasoning models may send blocks; the first need not be text.
    if isinstance(content, list):
        return "".join(part.text or "" for part in content if part.type == "text")
    return content


def _top(choice: _Choice) -> tuple[Alternative, ...] | None:
    positions = [
        (
            alternative(token.token, token.logprob),
            [alternative(other.token, other.logprob) for other in token.top_logprobs or []],
        )
        for token in (choice.logprobs and choice.logprobs.content) or []
    ]
    return answer_token(positions, _text(choice.message.content))
