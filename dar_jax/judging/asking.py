"""One wire of a judge: every question through the ledger and the budget, every answer read into a verdict."""

import asyncio
import functools
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dar_jax.chat.errors import ChatError, TooSlow
from dar_jax.chat.retry import ask
from dar_jax.chat.wire import Answer, Chat
from dar_jax.judging.budget import Budget, Refusal
from dar_jax.judging.combining import combined
from dar_jax.judging.ledger import Ledger, Question
from dar_jax.judging.parsing import Unusable, mode_of, read_as_asked
from dar_jax.judging.prices import Price
from dar_jax.judging.spent import Spent, billed, estimate
from dar_jax.judging.terms import Call, Judging
from dar_jax.judging.totals import Totals
from dar_jax.records import Completion, Status, Usage, Verdict


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one question: an answer, or what stands in its place: an error, or no room in the budget."""

    answer: Answer | None = None
    error: ChatError | None = None
    calls: int = 0
    paid_before: bool = False
    refused: Refusal | None = None


class Tally:
    """The sums of a judge, added to from its loop and read from anywhere."""

    def __init__(self) -> None:
        self._totals, self._lock = Totals(), threading.Lock()

    @property
    def totals(self) -> Totals:
        """The sums so far."""
        with self._lock:
            return self._totals

    def billed(self, answer: Answer, calls: int, price: Price | None) -> None:
        """Add an answer that was just paid for."""
        with self._lock:
            self._totals = self._totals.billed(answer, calls, price)

    def called(self, calls: int) -> None:
        """Add requests that brought no answer."""
        with self._lock:
            self._totals = replace(self._totals, calls=self._totals.calls + calls)

    def counted(self, verdict: Verdict) -> Verdict:
        """Add a verdict; return it."""
        with self._lock:
            self._totals = self._totals.counted(verdict)
        return verdict


class Asker:
    """Judges completions over one wire, by its terms. Used from one event loop only.

    Every answer is in the ledger before a verdict is made of it, so that what a run has used is never paid for
    twice. `identity` says whom the ledger files answers under; `price` None: unknown; `label` is for people.
    """

    def __init__(
        self,
        terms: Judging,
        chat: Chat,
        ledger: Ledger,
        *,
        identity: Mapping[str, object],
        price: Price | None,
        budget: Budget,
        tally: Tally,
        label: str,
    ) -> None:
        self.terms, self.price, self.label, self._identity = terms, price, label, identity
        self.last_error: ChatError | None = None
        self._chat, self._ledger, self._budget, self._tally = chat, ledger, budget, tally
        self._ask = functools.partial(ask, chat, patience=terms.patience(), limits=terms.limits())
        self._asking: dict[str, asyncio.Task[Outcome]] = {}

    async def verdict(self, completion: Completion, start_by: float) -> Verdict:
        """Ask all questions of one judgement, begun before the loop's time `start_by`, and read the answers."""
        calls = self.terms.calls(completion)
        outcomes = await asyncio.gather(*(self._outcome(self._question(c, completion), start_by) for c in calls))
        parts = [self._read(call, outcome) for call, outcome in zip(calls, outcomes, strict=True)]
        return combined(parts, [call.weight for call in calls])

    async def known(self, completion: Completion) -> bool:
        """Whether the ledger holds answers to all questions of a judgement, and they make a reward."""
        calls = self.terms.calls(completion)
        answers = [await self._ledger.get(self._question(call, completion).key) for call in calls]
        parts = [self._read(call, Outcome(answer=a)) for call, a in zip(calls, answers, strict=True) if a]
        return len(parts) == len(calls) and all(part.status == "ok" for part in parts)

    def abandon(self) -> None:
        """Cancel what is under way."""
        for task in self._asking.values():
            task.cancel()

    async def close(self) -> None:
        """Close the wire."""
        await self._chat.close()

    def _question(self, call: Call, completion: Completion) -> Question:
        judge = {**self._identity, "rubric": call.rubric}
        return Question(judge=judge, request=call.request, prompt=completion.prompt.text, completion=completion.text)

    async def _outcome(self, question: Question, start_by: float) -> Outcome:
        key = question.key
        if task := self._asking.get(key):
            outcome = await asyncio.shield(task)
            return replace(outcome, paid_before=True, calls=0)
        task = asyncio.create_task(self._answer(key, question, start_by))
        self._asking[key] = task
        task.add_done_callback(lambda _: self._asking.pop(key))
        return await asyncio.shield(task)

    async def _answer(self, key: str, question: Question, start_by: float) -> Outcome:
        if known := await self._ledger.get(key):
            return Outcome(answer=known, paid_before=True)
        amount, paid = estimate(question.request, question.judge), Spent()
        if refused := await self._budget.reserve(amount):
            return Outcome(refused=refused)
        try:
            answer, calls = await self._ask(request=question.request, start_by=start_by)
            await self._ledger.put(question, answer, calls)
            paid = billed(question.request, answer.usage, question.judge)
        except ChatError as error:
            self._tally.called(error.attempts)
            self.last_error = error
            return Outcome(error=error, calls=error.attempts)
        finally:
            self._budget.settle(amount, paid)
        self._tally.billed(answer, calls, self.price)
        return Outcome(answer=answer, calls=calls)

    def _read(self, call: Call, outcome: Outcome) -> Verdict:
        answer, refused, plain = outcome.answer, outcome.refused, call.request.to_plain()
        if refused:
            return Verdict(status="over_budget", reason=refused.reason, provenance=refused.setting, cost_usd=0.0)
        if answer is None:
            return _unanswered(outcome)
        verdict = replace(found(answer, plain, self.terms.mass_floor), served_model=answer.served_model)
        if outcome.paid_before:
            return replace(verdict, from_ledger=True, cost_usd=0.0)
        cost = self.price.cost_usd(answer.usage) if self.price else None
        return replace(verdict, usage=answer.usage or Usage(), calls=outcome.calls, cost_usd=cost)


def found(answer: Answer, request: Mapping[str, Any], mass_floor: float) -> Verdict:
    """Make a verdict of one answer, by its request (`Request.to_plain`)."""
    said, mode = read_as_asked(answer, request, mass_floor), mode_of(request)
    if isinstance(said, Unusable):
        return Verdict(status=said.status, reason=said.reason, provenance=mode)
    return Verdict(status="ok", distribution=said, provenance=mode)


def _unanswered(outcome: Outcome) -> Verdict:
    status: Status = "timeout" if isinstance(outcome.error, TooSlow) else "failed"
    tried = f" ({outcome.calls} attempts)" if outcome.calls > 1 else ""
    return Verdict(status=status, reason=f"{outcome.error}{tried}", calls=outcome.calls, cost_usd=0.0)
