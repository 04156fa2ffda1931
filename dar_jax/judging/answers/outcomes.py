"""The outcome of a question, and its verdict."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dar_jax.chat.failures import ChatError, TooSlow
from dar_jax.chat.wire import Answer, Request
from dar_jax.judging.answers.parsing import Unusable, mode_of, prose, read_as_asked
from dar_jax.judging.money.budget import Refusal
from dar_jax.records import Status, Usage, Verdict


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one question: an answer, an error, or no room in the budget.

    `usage` and `cost_usd` are those of an answer just paid for, `estimated` if the server did not report its usage;
    `cost_usd` is None if the price is unknown.
    """

    answer: Answer | None = None
    error: ChatError | None = None
    calls: int = 0
    usage: Usage = field(default_factory=Usage)
    estimated: bool = False
    cost_usd: float | None = 0.0
    paid_before: bool = False
    refused: Refusal | None = None


@dataclass(frozen=True, kw_only=True)
class AnswerCosts:
    """The cost of an answer that is not a verdict itself."""

    usage: Usage
    annotations: int
    calls: int
    cost_usd: float | None
    from_ledger: bool
    estimated: int = 0


class NotKept(Exception):
    """The ledger has no answer to a question."""


# A function that asks a question, stored under the text of a rubric.
Ask = Callable[[Request, str], Awaitable[Outcome]]
# A function from prompt and completion, stored with each answer, to an `Ask`.
About = Callable[[str, str], Ask]


def verdict_of(outcome: Outcome, request: Request, mass_floor: float) -> Verdict:
    """Return the verdict of an outcome, with its cost."""
    if outcome.answer is None:
        return _unanswered(outcome)
    return charged(found(outcome.answer, request.to_plain(), mass_floor), outcome)


def costs_of(outcome: Outcome) -> AnswerCosts:
    """Return the cost of an answer."""
    if outcome.paid_before or outcome.answer is None:
        return AnswerCosts(usage=Usage(), annotations=0, calls=0, cost_usd=0.0, from_ledger=outcome.paid_before)
    return AnswerCosts(
        usage=outcome.usage,
        annotations=1,
        calls=outcome.calls,
        cost_usd=outcome.cost_usd,
        estimated=int(outcome.estimated),
        from_ledger=False,
    )


def notes_of(outcome: Outcome) -> str | Verdict:
    """Return the notes in an answer, or the verdict of a judgement that fails here."""
    if outcome.answer is None:
        return _unanswered(outcome)
    notes = prose(outcome.answer)
    if isinstance(notes, Unusable):
        return charged(Verdict(status=notes.status, reason=f"notes: {notes.reason}", provenance="reasoning"), outcome)
    return notes


def found(answer: Answer, request: Mapping[str, Any], mass_floor: float) -> Verdict:
    """Return the verdict of an answer to a request (`Request.to_plain`)."""
    said, mode = read_as_asked(answer, request, mass_floor), mode_of(request)
    if isinstance(said, Unusable):
        return Verdict(status=said.status, reason=said.reason, provenance=mode)
    return Verdict(status="ok", distribution=said, provenance=mode)


def charged(verdict: Verdict, outcome: Outcome) -> Verdict:
    """Return a verdict with the cost of its answer."""
    answer = outcome.answer
    assert answer is not None
    verdict = replace(verdict, served_model=answer.served_model)
    if outcome.paid_before:
        return replace(verdict, from_ledger=True, cost_usd=0.0)
    return replace(
        verdict,
        usage=outcome.usage,
        annotations=1,
        calls=outcome.calls,
        cost_usd=outcome.cost_usd,
        estimated=int(outcome.estimated),
    )


def _unanswered(outcome: Outcome) -> Verdict:
    if refused := outcome.refused:
        return Verdict(status="over_budget", reason=refused.reason, provenance=refused.setting, cost_usd=0.0)
    status: Status = "timeout" if isinstance(outcome.error, TooSlow) else "failed"
    tried = f" ({outcome.calls} attempts)" if outcome.calls > 1 else ""
    return Verdict(status=status, reason=f"{outcome.error}{tried}", calls=outcome.calls, cost_usd=0.0)
