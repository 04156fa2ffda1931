"""One wire of a judge: every question through the ledger and the budget, every answer read into a verdict."""

import asyncio
import functools
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from dar_jax.chat.failures import ChatError
from dar_jax.chat.retry import ask
from dar_jax.chat.timings import Waits
from dar_jax.chat.wire import Answer, Chat, Request
from dar_jax.judging.answers.outcomes import Ask, NotKept, Outcome
from dar_jax.judging.answers.pairwise import judged
from dar_jax.judging.ledger.last_look import LastLook
from dar_jax.judging.ledger.ledger import Ledger, Question
from dar_jax.judging.ledger.rereading import current
from dar_jax.judging.money.budget import Budget
from dar_jax.judging.money.prices import Price
from dar_jax.judging.money.spent import Spent, billed, estimate
from dar_jax.judging.money.totals import Totals
from dar_jax.judging.terms import Judging
from dar_jax.records import Completion, Usage, Verdict


class Tally:
    """The sums of a judge, added to from its loop and read from anywhere."""

    def __init__(self) -> None:
        self._totals, self._lock = Totals(), threading.Lock()
        self._remarks: dict[str, bool] = {}

    @property
    def totals(self) -> Totals:
        """The sums so far."""
        with self._lock:
            return self._totals

    def billed(self, answer: Answer, used: Usage, calls: int, price: Price | None) -> None:
        """Add an answer just paid for, and the tokens it took, as reported or estimated."""
        with self._lock:
            self._totals = self._totals.billed(answer, used, calls, price)
            if answer.remark:
                self._remarks.setdefault(answer.remark, False)

    def remarks(self) -> list[str]:
        """Return what is odd about the answers so far, each remark once."""
        with self._lock:
            fresh = [remark for remark, told in self._remarks.items() if not told]
            self._remarks.update(dict.fromkeys(fresh, True))
        return fresh

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
    twice. `identity` says whom the ledger files answers under; `price` None: unknown; `label` is for people;
    `bought` are keys of answers that were bought by batch just now.
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
        bought: Collection[str] = (),
    ) -> None:
        self.terms, self.price, self.label, self._identity = terms, price, label, identity
        self.last_error: ChatError | None = None
        self._chat, self._ledger, self._budget, self._tally = chat, ledger, budget, tally
        self.limits = terms.limits()
        self._ask = functools.partial(ask, patience=terms.patience(), limits=self.limits)
        self._bought = set(bought)
        self._asking: dict[str, asyncio.Task[Outcome]] = {}

    async def verdicts(self, group: Sequence[Completion], start_by: float) -> list[Verdict]:
        """Judge completions of one prompt, with questions begun before the loop's time `start_by`."""
        return await judged(self.terms, group, functools.partial(self._about, start_by, group[0].occasion))

    async def known(self, group: Sequence[Completion]) -> bool:
        """Whether the ledger holds answers to all questions of a judgement, and they make rewards."""
        try:
            return all(verdict.status == "ok" for verdict in await judged(self.terms, group, self._remembered))
        except NotKept:
            return False

    def take_waits(self) -> Waits:
        """Return what requests waited for since this was last called."""
        pace = self.limits.learnt_per_minute or 0.0
        connecting = Waits(connect_wait_s=self._chat.ramp.take_longest_s(), slowed_to_per_minute=pace)
        return self.limits.timings.take() + connecting

    async def drain(self) -> None:
        """Ask nothing new; wait until what is under way is in the ledger."""
        self.limits.shut()
        while under_way := tuple(self._asking.values()):
            await asyncio.wait(under_way)

    def abandon(self) -> None:
        """Cancel what is under way."""
        for task in self._asking.values():
            task.cancel()

    async def close(self) -> None:
        """Close the wire."""
        await self._chat.close()

    def _about(self, start_by: float, occasion: str, prompt: str, completion: str) -> Ask:
        async def ask(request: Request, rubric: str) -> Outcome:
            return await self._outcome(self._question(request, rubric, prompt, completion, occasion), start_by)

        return ask

    def _remembered(self, prompt: str, completion: str) -> Ask:
        async def ask(request: Request, rubric: str) -> Outcome:
            question = self._question(request, rubric, prompt, completion)
            if (answer := await self._ledger.get(question.key)) is None:
                raise NotKept
            return Outcome(answer=current(answer, question.judge), paid_before=True)

        return ask

    def _question(self, request: Request, rubric: str, prompt: str, completion: str, occasion: str = "") -> Question:
        judge = {**self._identity, "rubric": rubric}
        return Question(judge=judge, request=request, prompt=prompt, completion=completion, occasion=occasion)

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
            answer = current(known, question.judge)
            if self._first_use(key):
                return self._billed(question, replace(answer, usage=known.usage), 1)
            return Outcome(answer=answer, paid_before=True)
        amount, paid = estimate(question.request, question.judge), Spent()
        if refused := await self._budget.reserve(amount):
            return Outcome(refused=refused)
        try:
            tokens = amount.usage.input_tokens + amount.usage.output_tokens
            look = LastLook(self._chat, self._ledger, key)
            answer, calls = await self._ask(look, question.request, start_by=start_by, tokens=tokens)
            if look.found:
                self._tally.called(calls - 1)
                return Outcome(answer=current(look.found, question.judge), paid_before=True)
            kept = await self._ledger.put(question, answer, calls)
            paid = billed(question.request, answer.usage, question.judge)
        except ChatError as error:
            self._tally.called(error.attempts)
            self.last_error = error
            return Outcome(error=error, calls=error.attempts)
        finally:
            self._budget.settle(amount, paid)
        # Of two answers bought at once all runs use the first.
        used = kept if kept is answer else current(kept, question.judge)
        return self._billed(question, replace(used, usage=answer.usage), calls)

    def _billed(self, question: Question, answer: Answer, calls: int) -> Outcome:
        used = billed(question.request, answer.usage, question.judge).usage
        self._tally.billed(answer, used, calls, self.price)
        cost = self.price.cost_usd(used) if self.price else None
        return Outcome(answer=answer, calls=calls, usage=used, estimated=answer.usage is None, cost_usd=cost)

    def _first_use(self, key: str) -> bool:
        """Whether an answer was bought by batch just now, and is used for the first time."""
        is_first = key in self._bought
        self._bought.discard(key)
        return is_first
