"""What can go wrong with a model behind HTTP, on demand.

Whether and how a call fails is drawn from the seed, the content asked about and the number of the attempt: it
does not depend on the order in which calls arrive, and a second run fails alike.
"""

import dataclasses
import hashlib
import random
from collections.abc import Mapping
from typing import Literal, get_args

from dar_jax.chat.wire import Answer, Choice

TransportFault = Literal[
    "rate_limit",  # 429
    "rate_limit_retry_after",  # 429 with a Retry-After of `retry_after_s`
    "quota",  # 429 that will not pass
    "server_error",  # 500
    "unavailable",  # 503
    "bad_key",  # 401, the key repeated in the message
    "reset_before",  # the connection is closed before the question is answered
    "reset_after",  # the same, after the answer was made
    "cut_body",  # half of the answer, then the connection is closed
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
    "low_mass",  # probabilities of anything but the choices
    "out_of_range",  # a number off the scale
    "prose",  # a sentence with a number in it
    "drifted_model",  # another model than the one asked for
]
FAULTS: tuple[str, ...] = (*get_args(TransportFault), *get_args(AnswerFault))
ANSWER_FAULTS: frozenset[str] = frozenset(get_args(AnswerFault))


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
    return dataclasses.replace(answer, choices=tuple(_spoilt(choice, fault) for choice in answer.choices))


def _spoilt(choice: Choice, fault: str) -> Choice:
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
        "low_mass": {"top": tuple(dataclasses.replace(t, token="The") for t in choice.top or ()) or None},
        "out_of_range": {"text": "42"},
        "prose": {"text": "I would give this an 8/10."},
    }
    return dataclasses.replace(choice, **changes.get(fault, {}))  # type: ignore[arg-type]
