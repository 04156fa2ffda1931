"""Faults of a model behind HTTP, on demand.

The fault of a call is drawn from the seed, its content and the number of the attempt: it does not depend on the order
in which calls arrive, and is the same in every run.
"""

import dataclasses
import hashlib
import math
import random
from collections.abc import Mapping
from typing import Any, Literal, get_args

from dar_jax.chat.wire import Alternative, Answer, AnswerChoice

TransportFault = Literal[
    "rate_limit",  # 429
    "rate_limit_retry_after",  # 429 with a Retry-After of `retry_after_s`
    "rate_limit_retry_date",  # the same as a date, by the server's own clock (`clock_ahead_s`)
    "quota",  # 429 that waiting does not end
    "server_error",  # 500
    "bad_gateway",  # 502 and a web page
    "unavailable",  # 503
    "bad_key",  # 401 whose message repeats the key
    "reset_before",  # the connection is reset before there is an answer
    "reset_during",  # half of the answer, then a reset
    "reset_after",  # a reset after the answer was generated and before any of it is sent
    "cut_body",  # half of the answer, then the connection is closed normally
    "closed_idle",  # the whole answer, then the idle connection is closed: the next call finds it dead
    "drip",  # the answer in small pieces over `drip_s`
    "hang",  # nothing, for `hang_s`
    "html",  # 200 and a web page
    "truncated_json",  # 200 and half of the answer, with a matching content length
]
AnswerFault = Literal[
    "refusal",  # the model declines
    "safety_block",  # a filter blocks the answer
    "prompt_block",  # a filter blocks the prompt
    "empty_choices",  # an answer without choices
    "unknown_finish",  # an unknown finish reason
    "length",  # the answer is truncated
    "no_logprobs",  # requested log-probabilities are missing
    "nan_logprobs",  # log-probabilities that are NaN
    "low_mass",  # hardly any probability on the choices
    "out_of_range",  # a number beyond the scale
    "fraction",  # "8/10"
    "word",  # a number in words
    "prose",  # a sentence with a number in it
    "wrong_index",  # the index of a choice that was not requested
    "repeated_index",  # the same choice twice
    "missing_index",  # choices without index
    "drifted_model",  # another model than the requested one
]
ReplyFault = Literal[
    "reasoning_logprobs",  # log-probabilities of thinking tokens before those of the reply
    "text_other_than_token",  # log-probabilities of another token than the reply's only
    "overfull_logprobs",  # probabilities that sum to more than 1
    "unreadable_reply",  # JSON of an answer with a number in place of its text
    "events",  # the answer as server-sent events
    "filter_400",  # 400 with a content filter's code; a blocked prompt if the protocol has no such code
    "usage_null",  # `usage: null`
    "usage_empty",  # `usage: {}`
    "usage_total_only",  # only the total
    "usage_negative",  # counts below 0
    "usage_huge",  # counts beyond any integer column
    "usage_other_names",  # OpenAI's other field names, without a total
    "usage_cached_beside",  # cached tokens not included in the input
    "usage_thinking_beside",  # thinking tokens in the total only
]
FAULTS: tuple[str, ...] = (*get_args(TransportFault), *get_args(AnswerFault), *get_args(ReplyFault))
ANSWER_FAULTS: frozenset[str] = frozenset(get_args(AnswerFault))
# The answer was generated, but does not arrive complete.
LOST_FAULTS = frozenset({"reset_during", "reset_after", "cut_body", "truncated_json"})


def draw(faults: Mapping[str, float], seed: int, content: str, attempt: int) -> str | None:
    """Draw the fault of an attempt, or None; `faults` maps each kind to its share of the calls."""
    digest = hashlib.sha256(f"{seed}\n{attempt}\n{content}".encode()).digest()
    at = random.Random(digest).random()
    for fault, share in faults.items():
        if at < share:
            return fault
        at -= share
    return None


def spoil(answer: Answer, fault: str) -> Answer:
    """Return the answer with the fault; unchanged if the fault does not concern answers."""
    if fault == "drifted_model":
        return dataclasses.replace(answer, served_model=f"{answer.served_model}-drifted")
    if fault == "empty_choices":
        return dataclasses.replace(answer, choices=())
    if fault == "prompt_block":
        return dataclasses.replace(answer, choices=(), blocked="PROHIBITED_CONTENT")
    choices = answer.choices * 2 if fault == "repeated_index" and len(answer.choices) == 1 else answer.choices
    return dataclasses.replace(answer, choices=tuple(_spoil_choice(choice, fault) for choice in choices))


def _spoil_choice(choice: AnswerChoice, fault: str) -> AnswerChoice:
    if (shares := choice.probabilities) is not None:
        of_score: dict[str, tuple[float, ...] | None] = {
            "no_logprobs": None,
            "prose": None,
            "low_mass": tuple(share / 100 for share in shares),
            "out_of_range": (*shares, 0.0),
        }
        choice = dataclasses.replace(choice, probabilities=of_score.get(fault, shares))
    changes: dict[str, dict[str, object]] = {
        "refusal": {"text": "I cannot help with that.", "finish": "refusal"},
        "safety_block": {"text": None, "finish": "blocked"},
        "unknown_finish": {"finish": "unknown"},
        "length": {"text": "Let me think about this", "finish": "length"},
        "no_logprobs": {"top": None},
        "nan_logprobs": {"top": _with_each(choice, logprob=math.nan)},
        "low_mass": {"top": _less_likely(choice)},
        "out_of_range": {"text": "42"},
        "fraction": {"text": "8/10"},
        "word": {"text": "seven"},
        "wrong_index": {"index": 400},
        "repeated_index": {"index": 0},
        "missing_index": {"index": None},
        "prose": {"text": "I would give this an 8/10."},
    }
    return dataclasses.replace(choice, **changes.get(fault, {}))  # type: ignore[arg-type]


def _less_likely(choice: AnswerChoice) -> tuple[Alternative, ...] | None:
    return tuple(dataclasses.replace(each, logprob=each.logprob - 5.0) for each in choice.top or ()) or None


def _with_each(choice: AnswerChoice, **changes: Any) -> tuple[Alternative, ...] | None:
    return tuple(dataclasses.replace(each, **changes) for each in choice.top or ()) or None
