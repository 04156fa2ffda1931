"""A policy's thoughts are not judged: a completion is judged by the text after the mark that closes its last thought.

Marks are like `</think>`; the mark that opens a thought has no slash. If the settings have a mark, every completion
must contain it.
"""

from dataclasses import replace
from typing import Literal, Protocol

from dar_jax.records import Completion, Verdict
from dar_jax.tokens import thought_start


class Thinking(Protocol):
    """The settings of a judge about thoughts."""

    @property
    def thoughts(self) -> Literal["hide", "show"]:
        """Whether thoughts are hidden from the judge."""
        ...

    @property
    def thought_end(self) -> str | None:
        """The mark that closes a thought; None for that of the completion."""
        ...


def answer_text(completion: Completion, terms: Thinking) -> str | None:
    """Return the text that is judged; None if a thought is unfinished."""
    end = _end(completion, terms)
    if terms.thoughts == "show" or not end:
        return completion.text
    start = thought_start(end)
    _, closed, rest = completion.text.rpartition(end)
    if start and start in rest:
        return None
    if closed:
        return rest.lstrip()
    return None if completion.thought_open or terms.thought_end is not None else rest


def without_thoughts(completion: Completion, terms: Thinking) -> Completion | Verdict:
    """Return a completion as it is judged, or the verdict of an unfinished thought, for which no judge is asked."""
    text = answer_text(completion, terms)
    if text is not None:
        return completion if text == completion.text else replace(completion, text=text, thought_open=False)
    reason = f"it ends within a thought, before {_end(completion, terms)}; raise sampling.max_completion_length"
    return Verdict(status="truncated", provenance="rule", reason=reason, cost_usd=0.0)


def is_unfinished(verdict: Verdict) -> bool:
    """Return whether this is the verdict of an unfinished thought."""
    return verdict.status == "truncated" and verdict.provenance == "rule"


def _end(completion: Completion, terms: Thinking) -> str:
    if completion.thought_end is None:
        return ""
    return completion.thought_end if terms.thought_end is None else terms.thought_end
