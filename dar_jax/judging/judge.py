"""The judge: takes completions, returns typed verdicts, and does everything else in one background thread."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from types import TracebackType
from typing import Protocol

from dar_jax.chat.background import BackgroundLoop
from dar_jax.chat.limits import Waits
from dar_jax.errors import DarError, Interrupted
from dar_jax.judging.answers.combining import panel
from dar_jax.judging.asking.probing import choose
from dar_jax.judging.asking.seat import Asker, Tally
from dar_jax.judging.ledger.ledger import Ledger
from dar_jax.judging.money.budget import Budget
from dar_jax.judging.money.prices import Price, Prices
from dar_jax.judging.money.spent import Spent, Totals
from dar_jax.judging.questions.rules import by_rule
from dar_jax.records import Completion, Verdict

# Beyond the batch's own deadline: how long `result` waits for a loop that does not answer.
_GRACE_S = 30.0
# Preempted machines often get 30 s after the signal.
_LEAVING_S = 20.0
# So many judgements are begun at once, or twice as many as calls may be under way: a whole step's, written out and
# waiting, would be in the memory of the training process and in the way of its garbage collector.
_AT_ONCE = 256


class Terms(Protocol):
    """Settings of a judge as a whole."""

    @property
    def batch_deadline_s(self) -> float:
        """The deadline of a batch, seconds."""
        ...

    @property
    def max_failure_share(self) -> float:
        """The share of failed judgements above which a run stops."""
        ...


class Pending:
    """Judgements in flight from `began` to `ended`, by `time.perf_counter`."""

    def __init__(self, verdicts: Future[list[Verdict]], count: int, timeout_s: float) -> None:
        self._verdicts, self._count, self._timeout_s = verdicts, count, timeout_s
        self.began = self.ended = time.perf_counter()
        verdicts.add_done_callback(self._end)

    def _end(self, _: Future[list[Verdict]]) -> None:
        self.ended = time.perf_counter()

    def ready(self, within_s: float) -> bool:
        """Wait at most `within_s` seconds; return whether `result` would return at once."""
        return bool(wait([self._verdicts], within_s).done)

    def result(self) -> list[Verdict]:
        """Wait for the verdicts, in the order submitted, at most until the batch's deadline.

        A failed judgement is a verdict with its reason. Raises DarError if the ledger cannot be used or the judge was
        closed.
        """
        try:
            return self._verdicts.result(self._timeout_s)
        except FutureTimeout:
            late = Verdict(status="timeout", reason="the judge's thread did not answer")
            return [late] * self._count
        except CancelledError:
            raise DarError("the judge was closed before its verdicts were there") from None


class Judge:
    """A judge of one wire, or a panel of several. A context manager; `close` ends its thread.

    Each seat has one asker, or one for each possible mode, of which `settle` keeps the first that works. `remarks` are
    for the user. Leaving the context waits for requests in flight, since they are billed.
    """

    def __init__(
        self,
        seats: Sequence[Sequence[Asker]],
        ledger: Ledger,
        budget: Budget,
        tally: Tally,
        *,
        terms: Terms,
        price: Price | Prices | None,
        remarks: Sequence[str] = (),
    ) -> None:
        self._seats, self._askers = seats, tuple(seat[0] for seat in seats)
        self._ledger, self._budget, self._tally = ledger, budget, tally
        self._terms, self._price, self.remarks = terms, price, tuple(remarks)
        self._closing = False
        self._labels = self._askers[0].terms.labels
        self._late: set[asyncio.Task[None]] = set()
        self._loop = BackgroundLoop("judge")

    def __enter__(self) -> "Judge":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        longest_s = max(asker.terms.attempt_timeout_s for asker in self._askers)
        if isinstance(error, Interrupted):
            self.close(min(_LEAVING_S, longest_s))
        else:
            self.close(longest_s if error is None or isinstance(error, DarError) else 0.0)

    @property
    def totals(self) -> Totals:
        """The totals so far."""
        return self._tally.totals

    @property
    def price(self) -> Price | Prices | None:
        """The price per token; None if unknown."""
        return self._price

    @property
    def spent_before(self) -> Spent:
        """What the run had spent on all hosts when this judge was opened."""
        return self._budget.before

    @property
    def spent(self) -> Spent:
        """What this judge has spent since."""
        return self._budget.spent

    @property
    def lowered_per_minute(self) -> float | None:
        """The requests a minute learned from the slowest server's 429s; None if there were none."""
        learnt = [asker.limits.lowered_per_minute for asker in self._askers]
        return min((rate for rate in learnt if rate is not None), default=None)

    def take_waits(self) -> Waits:
        """Return how long requests have waited since the last call."""
        return sum((asker.take_waits() for asker in self._askers), Waits())

    @property
    def max_failure_share(self) -> float:
        """The share of failed judgements above which `check_failures` raises."""
        return self._terms.max_failure_share

    @property
    def modes(self) -> set[str]:
        """The answer modes that its wires use."""
        return {asker.terms.mode for asker in self._askers}

    def notices(self) -> list[str]:
        """Return new notices about the ledger and the server's answers."""
        return [*self._ledger.notices(), *self._tally.remarks()]

    def describe(self) -> str:
        """Return one line on who judges, and how."""
        labels = [asker.label for asker in self._askers]
        return labels[0] if len(labels) == 1 else f"panel of {len(labels)}: {'; '.join(labels)}"

    def settle(self) -> None:
        """Probe the mode of each seat whose mode is `auto`. Raises what `probing.choose` raises."""
        self._askers = self._loop.start(self._choose()).result()

    async def _choose(self) -> tuple[Asker, ...]:
        return tuple([await choose(seat, self._budget.before) for seat in self._seats])

    def submit(self, completions: Sequence[Completion]) -> Pending:
        """Start judging; return at once."""
        if self._closing or self._loop.closed:
            raise DarError("the judge is closed")
        future = self._loop.start(self._batch(tuple(completions)))
        return Pending(future, len(completions), self._terms.batch_deadline_s + _GRACE_S)

    def close(self, drain_s: float = 0.0) -> None:
        """Close every connection and the ledger; do nothing if closed already.

        Requests in flight get `drain_s` seconds to store their answers in the ledger, then they are cancelled.
        """
        self._closing = True
        try:
            self._loop.close(self._close_wires(), drain=self._drain() if drain_s else None, drain_s=drain_s)
        finally:
            self._ledger.close()

    async def _drain(self) -> None:
        await asyncio.gather(*(asker.drain() for asker in self._askers))

    async def _close_wires(self) -> None:
        for asker in self._askers:
            await asker.close()

    async def _batch(self, completions: tuple[Completion, ...]) -> list[Verdict]:
        if not completions:
            return []
        now, found = asyncio.get_running_loop().time, dict[int, Verdict]()
        groups, start_by = self._groups(completions), now() + self._terms.batch_deadline_s
        open_groups = iter(groups)

        async def judge_in_turn() -> None:
            for group in open_groups:
                verdicts = await self._judge([completions[index] for index in group], start_by)
                found.update(zip(group, verdicts, strict=True))
                if now() > start_by or self._closing:
                    return

        at_once = max(_AT_ONCE, *(2 * asker.terms.concurrency for asker in self._askers))
        await self._waited([asyncio.create_task(judge_in_turn()) for _ in groups[:at_once]])
        timeout = Verdict(status="timeout", reason="the batch's deadline passed (judge.batch_deadline_s)")
        return [self._tally.counted(found.get(index, timeout)) for index in range(len(completions))]

    def _groups(self, completions: Sequence[Completion]) -> list[list[int]]:
        """Return the indices judged together: each completion alone, or all of a prompt if they are compared."""
        if self._labels == "reward":
            return [[index] for index in range(len(completions))]
        groups: dict[tuple[int, str], list[int]] = {}
        for index, each in enumerate(completions):
            groups.setdefault((each.prompt.id, each.prompt.text), []).append(index)
        return list(groups.values())

    async def _waited(self, tasks: "list[asyncio.Task[None]]") -> None:
        """Wait for the judgements until the batch's deadline."""
        done, late = await asyncio.wait(
            tasks, timeout=self._terms.batch_deadline_s, return_when=asyncio.FIRST_EXCEPTION
        )
        for failure in [task.exception() for task in done]:
            if failure is not None:
                # Only the ledger fails like this: buy no more answers that cannot be stored.
                for task in late:
                    task.cancel()
                for asker in self._askers:
                    asker.abandon()
                raise failure
        # Requests in flight may be billed: let their answers reach the ledger.
        self._late |= late
        for task in late:
            task.add_done_callback(self._late.discard)

    async def _judge(self, group: Sequence[Completion], start_by: float) -> list[Verdict]:
        if self._labels == "reward":
            for asker in self._askers:
                if (ruled := by_rule(group[0], asker.terms)) is not None:
                    return [ruled]
        if len(self._askers) == 1:
            return await self._askers[0].verdicts(group, start_by)
        columns = await asyncio.gather(*(asker.verdicts(group, start_by) for asker in self._askers))
        return [panel(parts) for parts in zip(*columns, strict=True)]
