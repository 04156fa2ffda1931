"""A judge whose questions were asked by batch: all answers come from the ledger, and none is asked for again."""

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dar_jax.chat.failures import Rejected
from dar_jax.chat.ramp import Ramp
from dar_jax.chat.wire import Answer, Request
from dar_jax.judging.asking.open_judge import LedgerLocation, open_judge
from dar_jax.judging.judge import Judge
from dar_jax.judging.judge_settings import OpenAIJudge
from dar_jax.judging.ledger.ledger import Ledger
from dar_jax.judging.money.prices import dollars
from dar_jax.judging.money.spent import estimates
from dar_jax.records import Completion
from dar_jax.relabeling.batch_jobs import Batches, BatchQuestion, batch_price


def open_batched(
    settings: OpenAIJudge,
    completions: Iterable[Completion],
    ledger: Path,
    note: Callable[[str], None],
    signal: Callable[[], str],
) -> Judge:
    """Ask about the completions by batch, wait, and open a judge of the answers. Raises what `Batches.ask` does."""
    with Ledger(ledger) as opened:
        asked = asyncio.run(_ask(settings, completions, opened, ledger, note, signal))
    price = batch_price(settings)
    if bought := asked.spent.annotations:
        cost = dollars(asked.spent.usd(price)) + estimates(asked.estimated)
        note(f"by batch: {bought:,} answers billed, {cost}; {len(asked.reasons):,} questions without an answer")
    # Nothing more is bought, so there is nothing to bound.
    free = dataclasses.replace(settings, prices=price, budget_usd=None, budget_annotations=None)
    return open_judge([(free, _Asked(settings, asked.reasons))], free, LedgerLocation(ledger), bought=asked.bought)


async def _ask(
    settings: OpenAIJudge,
    completions: Iterable[Completion],
    ledger: Ledger,
    place: Path,
    note: Callable[[str], None],
    signal: Callable[[], str],
) -> BatchQuestion:
    return await Batches(settings, ledger, place, note, signal).ask(completions)


@dataclass(frozen=True)
class _Asked:
    """The wire of questions that were asked already: whom, and why some have no answer."""

    settings: OpenAIJudge
    reasons: Mapping[Request, str]

    @property
    def model(self) -> str:
        """The model asked."""
        return self.settings.model

    @property
    def address(self) -> str:
        """Where it is, and how it was asked."""
        return f"{self.settings.address} by batch"

    def check(self) -> None:
        """Need nothing: nothing is sent."""

    def connect(self, connections: int) -> "_Answered":
        """Open the wire."""
        return _Answered(self.reasons)

    def identity(self) -> Mapping[str, object]:
        """Return the identity of the judge that was asked."""
        return self.settings.identity()


class _Answered:
    def __init__(self, reasons: Mapping[Request, str]) -> None:
        self._reasons, self.ramp = reasons, Ramp()

    async def ask(self, request: Request, timeout_s: float) -> Answer:
        """Raise the reason why the batch has no answer."""
        raise Rejected(self._reasons.get(request, "it was in no batch"))

    async def close(self) -> None:
        """Close nothing."""
