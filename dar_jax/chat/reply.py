"""What replies of all protocols have in common: JSON bodies, token counts, the answer token, and the `Answer` itself.

A reply that is billed becomes an answer even if it cannot be parsed. Token counts that are impossible are unknown,
never 0; if they are ambiguous the more expensive reading is used, so that a budget stops early, never late:

    OpenAI      prompt_tokens, completion_tokens, total_tokens; or input_tokens, output_tokens
    Gemini      promptTokenCount, candidatesTokenCount, thoughtsTokenCount, totalTokenCount
    decisions   input_tokens, output_tokens; at Google total_input_tokens and so on
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import pydantic
from pydantic import TypeAdapter
from pydantic.alias_generators import to_camel

from dar_jax.chat.wire import BLANK, LOWEST_LOGPROB, Alternative, Answer, AnswerChoice
from dar_jax.records import Usage

T = TypeVar("T")

MOST_TOKENS = 2**31
CACHED_APART = (
    "the server counts cached tokens apart from the input, not as part of it: they are added to the input before"
    " pricing"
)
# Longer numbers are not token counts; Python refuses to parse more than 4,300 digits.
_LONGEST_NUMBER = 30
# How far above 0 the logarithm of a probability of 1 may be rounded.
_ROUNDING = 1e-3
# Tokens that end a turn: <|im_end|>, </s>, <end_of_turn>, [EOS] and the like; not </think>, which ends no reply.
_END = re.compile(r"<(?!/?(?:think|reason|channel))[^<>\s]*>|\[(?:EOS|PAD|SEP)\]")


@dataclass(frozen=True)
class Misfit:
    """A body that does not fit the model: its JSON object (empty if there is none), and the wrong field."""

    found: dict[str, Any]
    fault: str


class Reported(NamedTuple):
    """The billed tokens, None if unknown; `remark` describes odd counts."""

    usage: Usage | None
    remark: str = ""


def build_answer(
    body: str,
    reported: Reported,
    model: object,
    choices: Iterable[AnswerChoice] = (),
    *,
    blocked: str = "",
    unreadable: str = "",
) -> Answer:
    """Build an answer from a body and its parts; `model` is used if it is a string."""
    return Answer(
        choices=tuple(choices),
        served_model=model if isinstance(model, str) else "",
        usage=reported.usage,
        remark=reported.remark,
        blocked=blocked,
        unreadable=unreadable,
        raw=body,
    )


def parse_reply(model: TypeAdapter[T], body: str, name: str) -> T | Misfit:
    """Parse a body by a pydantic model; of server-sent events the last one with the field `name` is used."""
    try:
        return model.validate_json(body)
    except pydantic.ValidationError:
        found = _object(body, name)
    try:
        return model.validate_python(found)
    except pydantic.ValidationError as error:
        return Misfit(found, _fault(error, found))


def _object(body: str, name: str) -> dict[str, Any]:
    if isinstance(whole := _loaded(body), dict):
        return whole
    events = [event for event in _events(body) if isinstance(event, dict)]
    named = [event for event in events if event.get(name)] or [event for event in events if name in event]
    # The usage may come in a separate event.
    counted = [{"usage": event["usage"]} for event in events if event.get("usage")]
    return {**named[-1], **(counted[-1] if counted else {})} if named else {}


def _fault(error: pydantic.ValidationError, body: Mapping[str, Any]) -> str:
    """Return the path of the wrong field, and what was expected."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    # pydantic reports each member of a union: the deepest error is of the member that was meant.
    path, message = max(((_path(each["loc"], body), each["msg"]) for each in faults), key=lambda each: len(each[0]))
    return f"{'.'.join(path) or 'the body'}: {message[:1].lower()}{message[1:]}"


def _path(location: Sequence[int | str], body: Any) -> list[str]:
    """Return an error's location without the union members that pydantic adds."""
    path = list[str]()
    for index, part in enumerate(location):
        if isinstance(body, Mapping) and (part in body or index == len(location) - 1):
            path, body = [*path, str(part)], body.get(part, 0)
        elif isinstance(body, list) and isinstance(part, int) and part < len(body):
            path, body = [*path, str(part)], body[part]
    return path


def _events(body: str) -> Iterator[Any]:
    for line in body.split("\n"):
        if line.startswith("data:"):
            yield _loaded(line.removeprefix("data:"))


def _loaded(text: str) -> Any:
    try:
        found = json.loads(text, parse_int=_number)
    except (ValueError, RecursionError):
        return None
    # Replaces lone surrogates, which JSON can hold and UTF-8 cannot.
    whole = json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")
    return json.loads(whole, parse_int=_number)


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_NUMBER else float("inf")


def count(value: object) -> int | None:
    """Return a count of tokens; None for anything but an integer in 0..2**31."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_TOKENS:
        return None
    return int(value) if value == int(value) else None


def completion_usage(given: object) -> Reported:
    """Return the `usage` of an OpenAI chat completion."""
    if not isinstance(given, Mapping):
        return Reported(None)
    return _reported(
        input=_most(given, "prompt_tokens", "input_tokens"),
        output=_most(given, "completion_tokens", "output_tokens"),
        cached=_detail(given, "cached_tokens", "prompt_tokens_details", "input_tokens_details"),
        thinking=_detail(given, "reasoning_tokens", "completion_tokens_details", "output_tokens_details"),
        total=count(given.get("total_tokens")),
    )


def gemini_usage(given: object) -> Reported:
    """Return Gemini's `usageMetadata`, in snake or camel case; thinking is billed as output, apart from candidates."""
    if not isinstance(given, Mapping):
        return Reported(None)
    names = ("prompt_token_count", "candidates_token_count", "thoughts_token_count", "cached_content_token_count")
    prompt, candidates, thoughts, cached = (_most(given, name, to_camel(name)) for name in names)
    output = None if candidates is None and thoughts is None else (candidates or 0) + (thoughts or 0)
    total = _most(given, "total_token_count", "totalTokenCount")
    return _reported(input=prompt, output=output, cached=cached, thinking=None, total=total)


def decision_usage(given: object) -> Reported:
    """Return the usage of typed decisions; a missing output is 0, as decisions bill none."""
    if not isinstance(given, Mapping):
        return Reported(None)
    input = _most(given, "input_tokens", "total_input_tokens")
    names = ("output_tokens", "total_output_tokens", "total_thought_tokens")
    outputs = [count(given[name]) for name in names if given.get(name) is not None]
    output = None if None in outputs else sum(each or 0 for each in outputs)
    cached = _most(given, "total_cached_tokens") or _detail(given, "cached_tokens", "input_tokens_details")
    return _reported(input=input, output=output, cached=cached, thinking=None, total=count(given.get("total_tokens")))


def _reported(
    *, input: int | None, output: int | None, cached: int | None, thinking: int | None, total: int | None
) -> Reported:
    """Combine the counts of one answer; `cached` and `thinking` are included in the others, or counted apart."""
    if total is not None and not input and output is not None:
        input = total - output
    # No prompt is empty: a server that does not count reports 0.
    if input is None or input <= 0:
        return Reported(None)
    apart = bool(cached) and (cached > input or total == input + cached + (output or 0))  # type: ignore[operator]
    input += cached if apart and cached else 0
    if output is None:
        if total is None or total < input:
            return Reported(None)
        output = total - input
    if thinking and thinking > output:
        output += thinking
    output = max(output, (total or 0) - input)
    return Reported(
        Usage(input_tokens=input, cached_tokens=cached or 0, output_tokens=output), CACHED_APART if apart else ""
    )


def _most(given: Mapping[str, Any], *names: str) -> int | None:
    known = [found for name in names if (found := count(given.get(name))) is not None]
    return max(known, default=None)


def _detail(given: Mapping[str, Any], name: str, *groups: str) -> int | None:
    found = [_most(group, name) for each in groups if isinstance(group := given.get(each), Mapping)]
    return max((each for each in found if each is not None), default=None)


def answer_token(
    tokens: Sequence[tuple[Alternative, Sequence[Alternative]]], text: str | None
) -> tuple[Alternative, ...] | None:
    """Return the alternatives of the token that is the reply's text, with the sampled one among them.

    Each item is a position: the sampled token and the server's top alternatives. Servers list thinking tokens before
    the reply's, or instead of them: only the last token counts, after white space and end tokens are skipped, and only
    if it is the whole text. Returns an empty tuple if it is not, None without positions.
    """
    for sampled, top in reversed(tokens):
        token = sampled.token.strip(BLANK)
        if token and token == (text or "").strip(BLANK):
            return tuple(top) if sampled.token in {each.token for each in top} else (*top, sampled)
        if token and not _END.fullmatch(sampled.token.strip()):
            break
    return () if tokens else None


def alternative(token: str, logprob: float | None) -> Alternative:
    """Build an Alternative; a missing or impossible log-probability (NaN, above 0) counts as probability 0."""
    if logprob is None or not LOWEST_LOGPROB < logprob < _ROUNDING:
        logprob = LOWEST_LOGPROB
    return Alternative(token=token, logprob=logprob)
