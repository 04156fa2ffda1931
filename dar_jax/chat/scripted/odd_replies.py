"""Complete replies with odd contents, as real servers and gateways send them: faults applied to a valid reply's JSON.

Each fault applies to replies of every protocol of `dialects.py` and `decision_dialects.py`; a reply without the fields
in question is unchanged.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

Json = dict[str, Any]
_THINKING = ("1", ".", " The", " text", " is", " fine", "</think>", "\n\n")
_TOTALS = ("total_tokens", "totalTokenCount")
_INPUTS = ("prompt_tokens", "promptTokenCount", "input_tokens", "total_input_tokens")
_CACHED_TIMES = 24
_THOUGHT_TOKENS = 800


def spoil_reply(reply: Json, fault: str) -> Json:
    """Return the reply with the fault; unchanged if the fault does not concern replies."""
    if fault == "unreadable_reply":
        return _unreadable(reply)
    if fault in _LOGPROBS:
        return _with_logprobs(reply, _LOGPROBS[fault])
    if fault in _USAGE:
        name = "usageMetadata" if "usageMetadata" in reply else "usage"
        return reply | {name: _USAGE[fault](reply[name])}
    return reply


def as_events(reply: str) -> str:
    """Return a reply as server-sent events, as some gateways send it without being asked to."""
    return f": keep-alive\n\ndata: {reply}\n\ndata: [DONE]\n\n"


def _unreadable(reply: Json) -> Json:
    if "candidates" in reply:
        return reply | {"candidates": [each | {"content": "7"} for each in reply["candidates"]]}
    if "choices" in reply:
        return reply | {"choices": [each | {"message": {"content": 7}} for each in reply["choices"]]}
    return reply | {"answers": "7"}


def _with_logprobs(reply: Json, change: Callable[[list[Any]], list[Any]]) -> Json:
    """Apply a change to the positions of the log-probabilities, in OpenAI's or Gemini's format."""
    reply = json.loads(json.dumps(reply))
    for choice in reply.get("choices", ()):
        if choice["logprobs"]:
            choice["logprobs"]["content"] = change(choice["logprobs"]["content"])
    for candidate in reply.get("candidates", ()):
        if found := candidate.get("logprobsResult"):
            tops = [each["candidates"] for each in found["topCandidates"]]
            positions = [
                chosen | {"top_logprobs": top} for chosen, top in zip(found["chosenCandidates"], tops, strict=True)
            ]
            changed = [_as_gemini(position) for position in change(positions)]
            found["chosenCandidates"] = [{k: v for k, v in each.items() if k != "top_logprobs"} for each in changed]
            found["topCandidates"] = [{"candidates": each["top_logprobs"]} for each in changed]
    return reply


def _as_gemini(position: Json) -> Json:
    """Rename OpenAI's fields, which a change may have added, to Gemini's."""
    named = {"logProbability" if name == "logprob" else name: value for name, value in position.items()}
    return (
        named | {"top_logprobs": [_as_gemini(each) for each in named["top_logprobs"]]}
        if "top_logprobs" in named
        else named
    )


def _thinking(tokens: tuple[str, ...]) -> list[Json]:
    return [{"token": t, "logprob": -0.01, "top_logprobs": [{"token": t, "logprob": -0.01}]} for t in tokens]


def _other_token(positions: list[Any]) -> list[Any]:
    token = positions[0]["token"] if positions else ""
    return _thinking(("2" if token == "1" else "1",))


def _overfull(positions: list[Any]) -> list[Any]:
    return [
        {**each, "top_logprobs": [{name: 0.0 if isinstance(v, float) else v for name, v in t.items()} for t in tops]}
        for each in positions
        for tops in [[*each["top_logprobs"], *_thinking(("x",))[0]["top_logprobs"]]]
    ]


def _cached_apart(usage: Mapping[str, Any]) -> Json:
    """Report cached tokens apart from the input, as some proxies of Anthropic's models do."""
    input = next(usage[name] for name in _INPUTS if name in usage)
    details = {"prompt_tokens_details": {"cached_tokens": _CACHED_TIMES * input}} if "prompt_tokens" in usage else {}
    listed = {"input_tokens_details": {"cached_tokens": _CACHED_TIMES * input}} if "input_tokens" in usage else {}
    names = {"promptTokenCount": "cachedContentTokenCount", "total_input_tokens": "total_cached_tokens"}
    flat = {name: _CACHED_TIMES * input for given, name in names.items() if given in usage}
    return {**usage, **details, **listed, **flat}


def _numbers(value: int) -> Callable[[Mapping[str, Any]], Json]:
    return lambda usage: {name: value for name, count in usage.items() if isinstance(count, int)}


def _renamed(usage: Mapping[str, Any]) -> Json:
    names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
    return {
        names.get(name, name): count for name, count in usage.items() if isinstance(count, int) and name not in _TOTALS
    }


_LOGPROBS: Mapping[str, Callable[[list[Any]], list[Any]]] = {
    "reasoning_logprobs": lambda positions: [*_thinking(_THINKING), *positions],
    "text_other_than_token": _other_token,
    "overfull_logprobs": _overfull,
}
_USAGE: Mapping[str, Callable[[Mapping[str, Any]], Json | None]] = {
    "usage_null": lambda usage: None,
    "usage_empty": lambda usage: {},
    "usage_total_only": lambda usage: {name: count for name, count in usage.items() if name in _TOTALS},
    "usage_negative": _numbers(-(10**12)),
    "usage_huge": _numbers(10**30),
    "usage_other_names": _renamed,
    "usage_cached_beside": _cached_apart,
    "usage_thinking_beside": lambda usage: {
        name: count + _THOUGHT_TOKENS if name in _TOTALS else count for name, count in usage.items()
    },
}
