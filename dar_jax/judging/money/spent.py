"""What a run has paid its judge for, and what one more question may add to it."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dar_jax.chat.reply import count
from dar_jax.chat.wire import Answer, Request
from dar_jax.judging.ledger.segments import StoredAnswer
from dar_jax.judging.money.prices import Price, Prices
from dar_jax.records import Usage, Verdict

BYTES_PER_TOKEN = 4


class Paid(NamedTuple):
    """A row of the ledger as far as money goes. `request` is JSON; tokens are None where the server did not say."""

    request: str
    written: int
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    payee: str = ""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Answers billed, and the tokens they took; where the server did not say, the tokens they may have taken.

    `by` divides the tokens by who is paid for them (see `payee`), for judges of several prices.
    """

    annotations: int = 0
    usage: Usage = field(default_factory=Usage)
    by: Mapping[str, Usage] = field(default_factory=dict, compare=False)

    def __add__(self, other: "Spent") -> "Spent":
        by = {name: self.by.get(name, Usage()) + other.by.get(name, Usage()) for name in {**self.by, **other.by}}
        return Spent(annotations=self.annotations + other.annotations, usage=self.usage + other.usage, by=by)

    def __sub__(self, other: "Spent") -> "Spent":
        by = {name: self.by.get(name, Usage()) - other.by.get(name, Usage()) for name in {**self.by, **other.by}}
        return Spent(annotations=self.annotations - other.annotations, usage=self.usage - other.usage, by=by)

    def scaled(self, input_times: float, output_times: float) -> "Spent":
        """Return it with so many times the tokens."""
        by = {name: _times(usage, input_times, output_times) for name, usage in self.by.items()}
        return Spent(annotations=self.annotations, usage=_times(self.usage, input_times, output_times), by=by)

    def usd(self, price: Price | Prices | None) -> float | None:
        """Price it in US dollars, None where the price is unknown. Tokens are added up first: the sum is the same in
        whatever order the answers came.
        """
        return None if price is None else self.priced(price)

    def priced(self, price: Price | Prices) -> float:
        """Price it in US dollars, by each judge's own price where there are several."""
        return price.at_most_usd(self.by) if isinstance(price, Prices) else price.at_most_usd(self.usage)


def payee(judge: Mapping[str, Any]) -> str:
    """Return who is paid for a judge's answers: what has one price, whatever the address or question."""
    return " ".join(str(judge[key]) for key in ("wire", "model", "channel") if key in judge)


def estimate(request: Request, judge: Mapping[str, Any] | None = None) -> Spent:
    """Return the estimated usage of an answer: a token per 4 bytes of input, and all allowed output tokens."""
    return _taken(_at_most(size(request), request.n * request.max_tokens), payee(judge or {}))


def billed(request: Request, usage: Usage | None, judge: Mapping[str, Any] | None = None) -> Spent:
    """Return the usage of an answer, as reported or estimated."""
    return estimate(request, judge) if usage is None else _taken(usage, payee(judge or {}))


def size(request: Request) -> int:
    """Count the bytes of a question's words."""
    words = [message.content for message in request.messages]
    for score in request.scores:
        words += [score.instructions, *map(str, score.levels)]
    return sum(len(text.encode("utf-8", "replace")) for text in words)


def total(rows: Iterable[Paid]) -> Spent:
    """Add up the rows of a ledger."""
    return sum(map(_billed, rows), Spent())


def lost_answers(held: Spent, rows: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the warning for a run whose ledger holds fewer answers than its metrics (`rows`) say were bought."""
    counts = [(row["judge/spent_annotations"], row["step"]) for row in rows if row.get("judge/spent_annotations")]
    if not counts or counts[-1][0] <= held.annotations:
        return None
    logged, step = counts[-1]
    return (
        f"the ledger holds {held.annotations:,} answers, the log has {logged:,.0f} at step {step}: the others are lost,"
        " and are paid for again where the run needs them; put the ledger back if there is a copy of it"
    )


def usage(row: Paid | StoredAnswer) -> Usage | None:
    """Return the tokens billed for an answer, None where the server reported none that can be true."""
    asked, said = count(row.input_tokens), count(row.output_tokens)
    # Ledgers of before: 0 where nothing was reported, and cached tokens beside the input.
    if not asked or said is None:
        return None
    cached = count(row.cached_tokens) or 0
    return Usage(input_tokens=asked + (cached if cached > asked else 0), cached_tokens=cached, output_tokens=said)


def estimates(count: int) -> str:
    """Return what to add to a sum that holds this many estimates; empty without any."""
    return f" ({count:,} estimated, whose usage the server did not report)" if count else ""


def _billed(row: Paid) -> Spent:
    return _taken(usage(row) or estimated(row), row.payee)


def estimated(row: Paid) -> Usage:
    """Return the most tokens an answer without usage can have taken. Raises ValueError where the row is damaged."""
    try:
        request = json.loads(row.request)
        asked, said = request.get("bytes", row.written), request["n"] * request["max_tokens"]
        return _at_most(asked, said)
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"the request of an answer is damaged: {row.request[:100]}") from None


def _at_most(bytes_asked: int, output_tokens: int) -> Usage:
    return Usage(input_tokens=-(-bytes_asked // BYTES_PER_TOKEN), output_tokens=output_tokens)


def _times(usage: Usage, input_times: float, output_times: float) -> Usage:
    return Usage(
        input_tokens=math.ceil(input_times * usage.input_tokens),
        cached_tokens=math.ceil(input_times * usage.cached_tokens),
        output_tokens=math.ceil(output_times * usage.output_tokens),
    )


def _taken(usage: Usage, payee: str) -> Spent:
    return Spent(annotations=1, usage=usage, by={payee: usage})


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
