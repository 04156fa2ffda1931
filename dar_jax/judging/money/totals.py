"""What a judge has done and cost since it was opened."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from dar_jax.chat.wire import Answer
from dar_jax.judging.money.prices import Price
from dar_jax.records import Usage, Verdict


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over the life of a judge.

    `annotations` counts the answers billed, `calls` the requests sent for them and for failures. `cost_usd`
    is None as soon as one answer's cost is unknown; `estimated` counts the answers whose usage the server did not
    report, and `usage` and `cost_usd` hold estimates of. `ledger_hits` were paid for before, or asked for twice
    at once; `rules` needed no call. `failures` counts verdicts by status, `served_models` answers by the
    name the server gave.
    """

    annotations: int = 0
    ledger_hits: int = 0
    rules: int = 0
    calls: int = 0
    usage: Usage = field(default_factory=Usage)
    estimated: int = 0
    cost_usd: float | None = 0.0
    failures: Mapping[str, int] = field(default_factory=Counter)
    served_models: Mapping[str, int] = field(default_factory=Counter)

    def billed(self, answer: Answer, used: Usage, attempts: int, price: Price | None) -> "Totals":
        """Return the sums with an answer just paid for, and the tokens it took, as reported or estimated."""
        cost = price.cost_usd(used) if price else None
        return dataclasses.replace(
            self,
            annotations=self.annotations + 1,
            calls=self.calls + attempts,
            usage=self.usage + used,
            estimated=self.estimated + (answer.usage is None),
            cost_usd=None if cost is None or self.cost_usd is None else self.cost_usd + cost,
            served_models=Counter(self.served_models) + Counter([answer.served_model]),
        )

    def counted(self, verdict: Verdict) -> "Totals":
        """Add what a verdict says of where it came from, and that it is none."""
        failed: list[str] = [verdict.status] if verdict.status != "ok" else []
        return dataclasses.replace(
            self,
            failures=Counter(self.failures) + Counter(failed),
            ledger_hits=self.ledger_hits + verdict.from_ledger,
            rules=self.rules + (verdict.provenance == "rule"),
        )
