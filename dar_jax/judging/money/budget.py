"""What a run may pay its judge: room is taken before each call, and corrected when its answer says what it took."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dar_jax.errors import BudgetSpent
from dar_jax.judging.money.prices import Price, Prices
from dar_jax.judging.money.spent import Spent
from dar_jax.records import Verdict


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One setting: how much of what `measure` counts a run may spend, and where this host stops (`ceiling`)."""

    setting: str
    limit: float
    ceiling: float
    measure: Callable[[Spent], float]

    def holds(self, spent: Spent) -> bool:
        """Whether so much may be spent here."""
        return self.measure(spent) <= self.ceiling


def annotations_limit(limit: int, before: Spent, index: int = 0, count: int = 1) -> Limit:
    """Bound the answers of a run that has paid for some `before`; what is left is divided among its hosts."""
    left = max(0, limit - before.annotations)
    share = left // count + (index < left % count)
    return Limit(
        setting="judge.budget_annotations",
        limit=limit,
        ceiling=limit - left + share,
        measure=lambda spent: spent.annotations,
    )


def usd_limit(limit: float, price: Price | Prices, before: Spent, count: int = 1) -> Limit:
    """Bound the US dollars of a run that has spent some `before`; what is left is divided among its hosts."""
    left = max(0.0, limit - before.priced(price))
    return Limit(
        setting="judge.budget_usd",
        limit=limit,
        # Exactly the limit for a host alone.
        ceiling=limit - left * (count - 1) / count,
        measure=lambda spent: spent.priced(price),
    )


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a question was not asked, and the setting to raise."""

    setting: str
    reason: str


class Budget:
    """The room left under some limits, for the calls of one judge. Used from one event loop, read from anywhere.

    `before` is what the run had spent when the judge was opened, `spent` what this judge has added. Where answers have
    taken more tokens than was estimated for them, what is under way is taken to need as much more.
    """

    def __init__(self, limits: Sequence[Limit] = (), before: Spent | None = None) -> None:
        self.before, self.spent = before or Spent(), Spent()
        self._limits = limits
        self._reserved, self._estimated = Spent(), Spent()
        self._turn, self._settled = asyncio.Lock(), asyncio.Event()

    async def reserve(self, amount: Spent) -> Refusal | None:
        """Reserve room for a call; return the reason if there is none.

        While other calls hold room that their answers may give back, it waits for them.
        """
        async with self._turn:
            while broken := self._broken(amount):
                if not self._reserved.annotations:
                    return self._refusal(broken)
                self._settled.clear()
                await self._settled.wait()
            self._reserved += amount
            return None

    def settle(self, amount: Spent, paid: Spent) -> None:
        """Replace the reservation of a call by its cost; 0 if there was no answer."""
        self._reserved -= amount
        self.spent += paid
        if paid.annotations:
            self._estimated += amount
        self._settled.set()

    def _broken(self, amount: Spent) -> Limit | None:
        if not self._limits:
            return None
        total = self.before + self.spent + (self._reserved + amount).scaled(*self._underestimated())
        return next((limit for limit in self._limits if not limit.holds(total)), None)

    def _underestimated(self) -> tuple[float, float]:
        """Return how many times the estimate the answers so far have taken, input and output, 1 at least."""
        took, estimated = self.spent.usage, self._estimated.usage
        return (
            max(1.0, took.input_tokens / max(1, estimated.input_tokens)),
            max(1.0, took.output_tokens / max(1, estimated.output_tokens)),
        )

    def _refusal(self, broken: Limit) -> Refusal:
        spent = broken.measure(self.before + self.spent)
        part = f", this host's part ends at {broken.ceiling:.10g}" * (broken.ceiling != broken.limit)
        reason = f"{broken.setting}={broken.limit:.10g} has no room for this question: {spent:.10g} spent{part}"
        return Refusal(setting=broken.setting, reason=reason)


def budget(
    annotations: int | None,
    usd: float | None,
    price: Price | Prices | None,
    before: Spent,
    index: int = 0,
    count: int = 1,
) -> Budget:
    """Make the budget of host `index` of `count`, of a run that has spent so much `before`, from its settings."""
    limits = []
    if annotations is not None:
        limits.append(annotations_limit(annotations, before, index, count))
    if usd is not None and price is not None:
        limits.append(usd_limit(usd, price, before, count))
    return Budget(limits, before)


def check_budget(verdicts: Sequence[Verdict], spent: Spent, price: Price | Prices | None) -> None:
    """Raise BudgetSpent where a judgement was not asked for because of a limit. `spent` is the whole run's."""
    missing = [verdict for verdict in verdicts if verdict.status == "over_budget"]
    if not missing:
        return
    usd = spent.usd(price)
    dollars = "" if usd is None else f" for {usd:.6g} US dollars"
    stop = BudgetSpent(
        f"the judge's budget is spent: {missing[0].reason}; the run has bought {spent.annotations} answers{dollars},"
        f" lacks {len(missing)} of {len(verdicts)} judgements, and makes no use of the others"
    )
    stop.setting = missing[0].provenance
    raise stop
