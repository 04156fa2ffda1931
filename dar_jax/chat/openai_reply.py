"""Parse the reply of a chat completion. A completion that cannot be parsed is an answer that names the wrong field.

The SDK's models are not used: they return an HTML page as a string, and accept objects with missing fields. The JSON of
a completion is billed, so it is an answer whether it can be parsed or not.
"""

from collections.abc import Mapping
from typing import Any

import pydantic
from pydantic import TypeAdapter

from dar_jax.chat.failures import Blocked, NotAnAnswer, shorten
from dar_jax.chat.reply import Misfit, alternative, answer_token, build_answer, completion_usage, parse_reply
from dar_jax.chat.wire import Alternative, Answer, AnswerChoice, Finish

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
    """Return the answer in the body of a chat completion. Raises NotAnAnswer if the body is not a completion."""
    reply = parse_reply(_REPLY, body, "choices")
    if isinstance(reply, Misfit):
        if not _is_completion(reply.found):
            raise _not_completion(body)
        billed = completion_usage(reply.found.get("usage"))
        return build_answer(body, billed, reply.found.get("model"), unreadable=reply.fault)
    if reply.error and not (reply.choices or reply.usage):
        raise _not_completion(body)
    return build_answer(body, completion_usage(reply.usage), reply.model, map(_choice, reply.choices))


def blocked_answer(error: Blocked) -> Answer:
    """Return the answer of a server whose content filter refused the request itself."""
    return Answer(choices=(), served_model="", blocked=str(error), raw=error.body)


def _is_completion(found: Mapping[str, Any]) -> bool:
    if found.get("error"):
        return bool(found.get("choices") or found.get("usage"))
    return found.get("choices") is not None or found.get("usage") is not None


def _not_completion(body: str) -> NotAnAnswer:
    return NotAnAnswer(f"HTTP 200, but no chat completion: {shorten(body)!r}")


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
    # Reasoning models may send blocks, of which the first may be thinking.
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
