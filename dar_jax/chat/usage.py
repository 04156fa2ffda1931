"""Token counts as servers report them, as `Usage`. Impossible counts are unknown, never 0.

    OpenAI      prompt_tokens, completion_tokens, total_tokens; or input_tokens, output_tokens
    Gemini      promptTokenCount, candidatesTokenCount, thoughtsTokenCount, totalTokenCount
    decisions   input_tokens, output_tokens; at Google total_input_tokens and so on

If a count is ambiguous the more expensive reading is used: a budget then stops early, never late.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic.alias_generators import to_camel

from dar_jax.records import Usage

MOST_TOKENS = 2**31
CACHED_BESIDE = (
    "the server counts cached tokens beside the input, not as part of it: they are added to the input before pricing"
)


class Reported(NamedTuple):
    """The tokens a server bills, None if not reported; `remark` is on odd counts."""

    usage: Usage | None
    remark: str = ""


def count(value: object) -> int | None:
    """Return a count of tokens; None for anything but an integer in 0..2**31."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_TOKENS:
        return None
    return int(value) if value == int(value) else None


def reported(
    *, input: int | None, output: int | None, cached: int | None, thinking: int | None, total: int | None
) -> Reported:
    """Combine the counts of one answer; `cached` and `thinking` are part of the others, or beside them."""
    if total is not None and not input and output is not None:
        input = total - output
    # No question is empty: 0 is how a server that does not count writes it.
    if input is None or input <= 0:
        return Reported(None)
    beside = bool(cached) and (cached > input or total == input + cached + (output or 0))  # type: ignore[operator]
    input += cached if beside and cached else 0
    if output is None:
        if total is None or total < input:
            return Reported(None)
        output = total - input
    if thinking and thinking > output:
        output += thinking
    output = max(output, (total or 0) - input)
    return Reported(
        Usage(input_tokens=input, cached_tokens=cached or 0, output_tokens=output), CACHED_BESIDE if beside else ""
    )


def of_completion(given: object) -> Reported:
    """Read the `usage` of an OpenAI chat completion."""
    if not isinstance(given, Mapping):
        return Reported(None)
    return reported(
        input=_most(given, "prompt_tokens", "input_tokens"),
        output=_most(given, "completion_tokens", "output_tokens"),
        cached=_detail(given, "cached_tokens", "prompt_tokens_details", "input_tokens_details"),
        thinking=_detail(given, "reasoning_tokens", "completion_tokens_details", "output_tokens_details"),
        total=count(given.get("total_tokens")),
    )


def of_gemini(given: object) -> Reported:
    """Read Gemini's `usageMetadata`, in either case: its thinking is billed as output, beside the candidates."""
    if not isinstance(given, Mapping):
        return Reported(None)
    names = ("prompt_token_count", "candidates_token_count", "thoughts_token_count", "cached_content_token_count")
    asked, said, thought, cached = (_most(given, name, to_camel(name)) for name in names)
    output = None if said is None and thought is None else (said or 0) + (thought or 0)
    total = _most(given, "total_token_count", "totalTokenCount")
    return reported(input=asked, output=output, cached=cached, thinking=None, total=total)


def of_decision(given: object) -> Reported:
    """Read the usage of typed decisions, whose output may be left out: they bill none."""
    if not isinstance(given, Mapping):
        return Reported(None)
    asked = _most(given, "input_tokens", "total_input_tokens")
    names = ("output_tokens", "total_output_tokens", "total_thought_tokens")
    outputs = [count(given[name]) for name in names if given.get(name) is not None]
    output = None if None in outputs else sum(each or 0 for each in outputs)
    cached = _most(given, "total_cached_tokens") or _detail(given, "cached_tokens", "input_tokens_details")
    return reported(input=asked, output=output, cached=cached, thinking=None, total=count(given.get("total_tokens")))


def _most(given: Mapping[str, Any], *names: str) -> int | None:
    known = [found for name in names if (found := count(given.get(name))) is not None]
    return max(known, default=None)


def _detail(given: Mapping[str, Any], name: str, *groups: str) -> int | None:
    found = [_most(group, name) for each in groups if isinstance(group := given.get(each), Mapping)]
    return max((each for each in found if each is not None), default=None)
