"""One wire of a judge: questions pass the ledger and the budget, and answers become verdicts."""

import asyncio
import dataclasses
import functools
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from dar_jax.chat.failures import ChatError
from dar_jax.chat.limits import Waits
from dar_jax.chat.retry import ask
from dar_jax.chat.wire import Answer, Chat, Request
from dar_jax.judging.answers.judgement import judged
from dar_jax.judging.answers.outcomes import Ask, NotKept, Outcome
from dar_jax.judging.ledger.ledger import Ledger, Question
from dar_jax.judging.ledger.rereading import current
from dar_jax.judging.money.budget import Budget
from dar_jax.judging.money.prices import Price
from dar_jax.judging.money.spent import Spent, Totals, billed, estimate
from dar_jax.judging.terms import Judging
from dar_jax.records import Completion, Usage, Verdict


class Tally:
    """Totals of a judge, updated by its loop and read from any thread."""

    def __init__(self) -> None:
        self._totals, self._lock = Totals(), threading.Lock()
        self._remarks: dict[str, bool] = {}

    @property
    def totals(self) -> Totals:
        """The totals so far."""
        with self._lock:
            return self._totals

    def billed(self, answer: Answer, used: Usage, calls: int, price: Price | None) -> None:
        """Add a paid answer and its tokens, as reported or estimated."""
        with self._lock:
            self._totals = self._totals.billed(answer, used, calls, price)
            if answer.remark:
                self._remarks.setdefault(answer.remark, False)

    def remarks(self) -> list[str]:
        """Return remarks on odd answers so far, each once."""
        with self._lock:
            fresh = [remark for remark, told in self._remarks.items() if not told]
            self._remarks.update(dict.fromkeys(fresh, True))
        return fresh

    def called(self, calls: int) -> None:
        """Add requests without an answer."""
        with self._lock:
            self._totals = replace(self._totals, calls=self._totals.calls + calls)

    def counted(self, verdict: Verdict) -> Verdict:
        """Add a verdict and return it."""
        with self._lock:
            self._totals = self._totals.counted(verdict)
        return verdict


class Asker:
    """Judges completions over one wire by its terms; used from one event loop only.

    Every answer is stored in the ledger before it becomes a verdict, so that no used answer is paid for twice.
    `identity` is the judge's name in the ledger; `price` None is unknown; `label` is for messages; `bought` are keys of
    answers just bought in a batch.
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
        self._ask = functools.partial(ask, retry_policy=terms.retry_policy(), limits=self.limits)
        self._bought = set(bought)
        self._asking: dict[str, asyncio.Task[Outcome]] = {}

    async def verdicts(self, group: Sequence[Completion], start_by: float) -> list[Verdict]:
        """Return verdicts on completions of one prompt; no question starts after the loop's time `start_by`."""
        return await judged(self.terms, group, functools.partial(self._about, start_by, group[0].occasion))

    async def known(self, group: Sequence[Completion]) -> bool:
        """Return whether the ledger has answers to all questions of a judgement, and they give rewards."""
        try:
            return all(verdict.status == "ok" for verdict in await judged(self.terms, group, self._remembered))
        except NotKept:
            return False

    def take_waits(self) -> Waits:
        """Return how long requests have waited since the last call."""
        pace = self.limits.lowered_per_minute or 0.0
        connecting = Waits(connect_wait_s=self._chat.ramp.take_longest_s(), slowed_to_per_minute=pace)
        return self.limits.timings.take() + connecting

    async def drain(self) -> None:
        """Ask no new questions; wait until answers in flight are in the ledger."""
        self.limits.shut()
        while under_way := tuple(self._asking.values()):
            await asyncio.wait(under_way)

    def abandon(self) -> None:
        """Cancel requests in flight."""
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
        # If two runs buy an answer at the same time, both use the first.
        used = kept if kept is answer else current(kept, question.judge)
        return self._billed(question, replace(used, usage=answer.usage), calls)

    def _billed(self, question: Question, answer: Answer, calls: int) -> Outcome:
        used = billed(question.request, answer.usage, question.judge).usage
        self._tally.billed(answer, used, calls, self.price)
        cost = self.price.cost_usd(used) if self.price else None
        return Outcome(answer=answer, calls=calls, usage=used, estimated=answer.usage is None, cost_usd=cost)

    def _first_use(self, key: str) -> bool:
        """Return whether an answer was just bought in a batch and is used for the first time."""
        is_first = key in self._bought
        self._bought.discard(key)
        return is_first


class LastLook:
    """A wire for one question that sends nothing if the ledger has the answer by now (`found`): another process may
    have bought it while the question waited for its turn.
    """

    def __init__(self, chat: Chat, ledger: Ledger, key: str) -> None:
        self._chat, self._ledger, self._key, self.ramp = chat, ledger, key, chat.ramp
        self.found: Answer | None = None

    async def ask(self, request: Request, timeout_s: float) -> Answer:
        """Send the request once, or return the stored answer. Raises what the wire raises, and DarError."""
        self.found = self._ledger.get_now(self._key)
        if self.found is None:
            return await self._chat.ask(request, timeout_s)
        return dataclasses.replace(self.found, usage=Usage())  # no rate limit was used

    async def close(self) -> None:
        """Leave the wire open, which other questions share."""
