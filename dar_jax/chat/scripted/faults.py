"""What can go wrong with a model behind HTTP, on demand.

Whether and how a call fails is drawn from the seed, the content asked about and the number of the attempt: it
does not depend on the order in which calls arrive, and a second run fails alike.
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
    "quota",  # 429 that will not pass
    "server_error",  # 500
    "bad_gateway",  # 502 and a web page
    "unavailable",  # 503
    "bad_key",  # 401, the key repeated in the message
    "reset_before",  # the connection is reset before the question is answered
    "reset_during",  # half of the answer, then a reset
    "reset_after",  # a reset once the answer was made, before any of it is sent
    "cut_body",  # half of the answer, then the connection is closed as if that were all
    "closed_idle",  # the whole answer, then the connection is closed without a word: the next call finds it dead
    "drip",  # the answer in small pieces over `drip_s`
    "hang",  # nothing, for `hang_s`
    "html",  # 200 and a web page
    "truncated_json",  # 200 and half of the answer, as if it were whole
]
AnswerFault = Literal[
    "refusal",  # the model declines
    "safety_block",  # a filter stops the answer
    "prompt_block",  # a filter stops the question
    "empty_choices",  # an answer without any choice
    "unknown_finish",  # a finish reason that nobody has heard of
    "length",  # the answer stops in the middle
    "no_logprobs",  # probabilities were asked for and are not there
    "nan_logprobs",  # probabilities that are no numbers
    "low_mass",  # hardly any probability on the choices
    "out_of_range",  # a number off the scale
    "fraction",  # "8/10"
    "word",  # a number in letters
    "prose",  # a sentence with a number in it
    "wrong_index",  # the choice of a question that was not asked
    "repeated_index",  # one choice twice
    "missing_index",  # choices that do not say which they are
    "drifted_model",  # another model than the one asked for
]
ReplyFault = Literal[
    "reasoning_logprobs",  # log-probabilities of the thinking before those of the reply
    "text_other_than_token",  # log-probabilities of another token than the reply's, and of no more
    "overfull_logprobs",  # probabilities that sum to more than 1
    "unreadable_reply",  # JSON of an answer that holds a number where its text is to be
    "events",  # the answer as server-sent events
    "filter_400",  # 400 with the code of a content filter; where the protocol has none, a blocked prompt
    "usage_null",  # `usage: null`
    "usage_empty",  # `usage: {}`
    "usage_total_only",  # no count but the total
    "usage_negative",  # counts below 0
    "usage_huge",  # counts that no database holds
    "usage_other_names",  # OpenAI's other names of them, without a total
    "usage_cached_beside",  # cached tokens beside the input, not in it
    "usage_thinking_beside",  # thinking in the total alone
]
FAULTS: tuple[str, ...] = (*get_args(TransportFault), *get_args(AnswerFault), *get_args(ReplyFault))
ANSWER_FAULTS: frozenset[str] = frozenset(get_args(AnswerFault))
# An answer is made, and does not arrive whole.
LOST_FAULTS = frozenset({"reset_during", "reset_after", "cut_body", "truncated_json"})


def draw(faults: Mapping[str, float], seed: int, content: str, attempt: int) -> str | None:
    """Choose the fault of an attempt, None for none; `faults` gives each kind its share of the calls."""
    digest = hashlib.sha256(f"{seed}\n{attempt}\n{content}".encode()).digest()
    at = random.Random(digest).random()
    for fault, share in faults.items():
        if at < share:
            return fault
        at -= share
    return None


def spoil(answer: Answer, fault: str) -> Answer:
    """Return the answer as the fault leaves it; untouched by a fault that is none of the answer's."""
    if fault == "drifted_model":
        return dataclasses.replace(answer, served_model=f"{answer.served_model}-drifted")
    if fault == "empty_choices":
        return dataclasses.replace(answer, choices=())
    if fault == "prompt_block":
        return dataclasses.replace(answer, choices=(), blocked="PROHIBITED_CONTENT")
    choices = answer.choices * 2 if fault == "repeated_index" and len(answer.choices) == 1 else answer.choices
    return dataclasses.replace(answer, choices=tuple(_spoilt(choice, fault) for choice in choices))


def _spoilt(choice: AnswerChoice, fault: str) -> AnswerChoice:
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
        "nan_logprobs": {"top": _each(choice, logprob=math.nan)},
        "low_mass": {"top": _rarer(choice)},
        "out_of_range": {"text": "42"},
        "fraction": {"text": "8/10"},
        "word": {"text": "seven"},
        "wrong_index": {"index": 400},
        "repeated_index": {"index": 0},
        "missing_index": {"index": None},
        "prose": {"text": "I would give this an 8/10."},
    }
    return dataclasses.replace(choice, **changes.get(fault, {}))  # type: ignore[arg-type]


def _rarer(choice: AnswerChoice) -> tuple[Alternative, ...] | None:
    return tuple(dataclasses.replace(each, logprob=each.logprob - 5.0) for each in choice.top or ()) or None


def _each(choice: AnswerChoice, **changes: Any) -> tuple[Alternative, ...] | None:
    return tuple(dataclasses.replace(each, **changes) for each in choice.top or ()) or None
