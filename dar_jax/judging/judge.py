"""The judge: completions in, typed verdicts out, everything else in one background thread."""

import asyncio
import functools
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from types import TracebackType

from dar_jax.chat.background import BackgroundLoop
from dar_jax.chat.errors import ChatError, TooSlow
from dar_jax.chat.retry import ask
from dar_jax.chat.wire import Answer, Chat
from dar_jax.errors import DarError
from dar_jax.judging.budget import Budget, Refusal
from dar_jax.judging.ledger import Ledger, Question
from dar_jax.judging.parsing import Unusable, read
from dar_jax.judging.prices import Price
from dar_jax.judging.rules import is_degenerate
from dar_jax.judging.spent import Spent, billed, estimate
from dar_jax.judging.terms import Judging
from dar_jax.judging.totals import Totals
from dar_jax.records import Completion, Distribution, Status, Usage, Verdict

# Over the batch's own deadline: how long `result` waits for a loop that does not answer at all.
_GRACE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one question: an answer, or what stands in its place: an error, or no room in the budget."""

    answer: Answer | None = None
    error: ChatError | None = None
    calls: int = 0
    paid_before: bool = False
    refused: Refusal | None = None


class Pending:
    """Judgements under way."""

    def __init__(self, verdicts: Future[list[Verdict]], count: int, timeout_s: float) -> None:
        self._verdicts, self._count, self._timeout_s = verdicts, count, timeout_s

    def ready(self, within_s: float) -> bool:
        """Wait for so long at most; say whether `result` will return at once."""
        return bool(wait([self._verdicts], within_s).done)

    def result(self) -> list[Verdict]:
        """Wait for the verdicts, in the order submitted; at most the batch's deadline.

        A failed judgement is a verdict that says so. Raises DarError when the ledger cannot be used or the
        judge was closed meanwhile.
        """
        try:
            return self._verdicts.result(self._timeout_s)
        except FutureTimeout:
            late = Verdict(status="timeout", reason="the judge's thread did not answer")
            return [late] * self._count
        except CancelledError:
            raise DarError("the judge was closed before its verdicts were there") from None


class Judge:
    """Asks a chat model for rewards. A context manager; `close` ends its thread.

    Every answer is in the ledger before a verdict is made of it, so that what a run has used is never paid for
    twice. `identity` says whom the ledger files answers under; `price` None: unknown.
    """

    def __init__(
        self,
        judging: Judging,
        chat: Chat,
        ledger: Ledger,
        *,
        identity: Mapping[str, object],
        price: Price | None,
        budget: Budget,
        describe: str,
    ) -> None:
        self._judging, self._chat, self._ledger = judging, chat, ledger
        self._identity, self._describe = identity, describe
        self._price, self._budget = price, budget
        self._ask = functools.partial(ask, chat, patience=judging.patience(), limits=judging.limits())
        self._asking: dict[str, asyncio.Task[Outcome]] = {}
        self._late: set[asyncio.Task[Verdict]] = set()
        self._totals = Totals()
        self._lock = threading.Lock()
        self._loop = BackgroundLoop("judge")

    def __enter__(self) -> "Judge":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def totals(self) -> Totals:
        """The sums so far."""
        with self._lock:
            return self._totals

    @property
    def price(self) -> Price | None:
        """What a token costs; None: unknown."""
        return self._price

    @property
    def spent_before(self) -> Spent:
        """What the run had paid when this judge was opened, on all hosts."""
        return self._budget.before

    @property
    def spent(self) -> Spent:
        """What this judge has paid since."""
        return self._budget.spent

    @property
    def max_failure_share(self) -> float:
        """The share of failed judgements above which `check_failures` stops."""
        return self._judging.max_failure_share

    def describe(self) -> str:
        """Say in one line who judges, and how."""
        return self._describe

    def submit(self, completions: Sequence[Completion]) -> Pending:
        """Begin to judge; return at once."""
        if self._loop.closed:
            raise DarError("the judge is closed")
        future = self._loop.start(self._batch(tuple(completions)))
        return Pending(future, len(completions), self._judging.batch_deadline_s + _GRACE_S)

    def close(self) -> None:
        """Give up what is under way, close every connection and the ledger. Closing twice does nothing."""
        try:
            self._loop.close(self._chat.close())
        finally:
            self._ledger.close()

    async def _batch(self, completions: tuple[Completion, ...]) -> list[Verdict]:
        if not completions:
            return []
        start_by = asyncio.get_running_loop().time() + self._judging.batch_deadline_s
        tasks = [asyncio.create_task(self._verdict(completion, start_by)) for completion in completions]
        done, late = await asyncio.wait(
            tasks, timeout=self._judging.batch_deadline_s, return_when=asyncio.FIRST_EXCEPTION
        )
        for failure in [task.exception() for task in done]:
            if failure is not None:
                # Only the ledger fails so: buy nothing more that cannot be kept.
                for task in (*late, *self._asking.values()):
                    task.cancel()
                raise failure
        # What is under way may be billed: let it reach the ledger for the next time.
        self._late |= late
        for task in late:
            task.add_done_callback(self._late.discard)
        timeout = Verdict(status="timeout", reason="the batch's deadline passed (judge.batch_deadline_s)")
        return [self._counted(timeout if task in late else task.result()) for task in tasks]

    async def _verdict(self, completion: Completion, start_by: float) -> Verdict:
        judging, text = self._judging, completion.text
        if is_degenerate(text):
            return self._lowest("nothing to judge")
        if judging.too_long == "refuse" and len(text) > judging.max_completion_chars:
            reason = f"{len(text)} characters; judge.max_completion_chars is {judging.max_completion_chars}"
            return Verdict(status="failed", provenance="rule", reason=reason, cost_usd=0.0)
        question = Question(
            judge=self._identity,
            request=judging.request(completion),
            prompt=completion.prompt.text,
            completion=text,
            occasion=completion.occasion,
        )
        return self._read(await self._outcome(question, start_by))

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
        amount, paid = estimate(question.request), Spent()
        if refused := await self._budget.reserve(amount):
            return Outcome(refused=refused)
        try:
            answer, calls = await self._ask(request=question.request, start_by=start_by)
            await self._ledger.put(question, answer, calls)
            paid = billed(question.request, answer.usage)
        except ChatError as error:
            with self._lock:
                self._totals = replace(self._totals, calls=self._totals.calls + error.attempts)
            return Outcome(error=error, calls=error.attempts)
        finally:
            self._budget.settle(amount, paid)
        with self._lock:
            self._totals = self._totals.billed(answer, calls, self._price)
        return Outcome(answer=answer, calls=calls)

    def _read(self, outcome: Outcome) -> Verdict:
        judging, answer, refused = self._judging, outcome.answer, outcome.refused
        if refused:
            return Verdict(status="over_budget", reason=refused.reason, provenance=refused.setting, cost_usd=0.0)
        if answer is None:
            status: Status = "timeout" if isinstance(outcome.error, TooSlow) else "failed"
            tried = f" ({outcome.calls} attempts)" if outcome.calls > 1 else ""
            return Verdict(status=status, reason=f"{outcome.error}{tried}", calls=outcome.calls, cost_usd=0.0)
        found = read(answer, judging.protocol, judging.mode, judging.mass_floor, judging.answers)
        verdict = (
            Verdict(status=found.status, reason=found.reason)
            if isinstance(found, Unusable)
            else Verdict(status="ok", distribution=found)
        )
        verdict = replace(verdict, provenance=judging.mode, served_model=answer.served_model)
        if outcome.paid_before:
            return replace(verdict, from_ledger=True, cost_usd=0.0)
        cost = self._price.cost_usd(answer.usage) if self._price else None
        return replace(verdict, usage=answer.usage or Usage(), calls=outcome.calls, cost_usd=cost)

    def _lowest(self, reason: str) -> Verdict:
        levels = self._judging.protocol.levels
        certain = (1.0, *(0.0 for _ in levels[1:]))
        floor = Distribution(levels=levels, probabilities=certain)
        return Verdict(status="ok", distribution=floor, provenance="rule", reason=reason, cost_usd=0.0)

    def _counted(self, verdict: Verdict) -> Verdict:
        with self._lock:
            if verdict.status != "ok":
                self._totals = self._totals.failed(verdict.status)
            self._totals = replace(
                self._totals,
                ledger_hits=self._totals.ledger_hits + verdict.from_ledger,
                rules=self._totals.rules + (verdict.provenance == "rule"),
            )
        return verdict
