"""What the answers of a ledger were, and cost: sums by judge and by the model that served them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dar_jax.judging.ledger.rereading import described, price, reread
from dar_jax.judging.ledger.segments import StoredAnswer
from dar_jax.judging.money.prices import Price
from dar_jax.judging.money.spent import usage

_RUBRIC_WORDS = 8


@dataclass(kw_only=True)
class Sums:
    """Sums over answers. `usable` counts those that gave a reward or a comparison; tokens are of the answers whose
    usage is known; `cost_usd` is None as soon as one answer's cost is unknown; `first` and `last` are Unix seconds.
    """

    answers: int = 0
    usable: int = 0
    attempts: int = 0
    without_usage: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    first: float | None = None
    last: float | None = None

    @property
    def usd_per_usable(self) -> float | None:
        """US dollars a usable answer, those of the others included; None where unknown or none is usable."""
        return self.cost_usd / self.usable if self.cost_usd is not None and self.usable else None

    def add(self, row: StoredAnswer, price: Price | None, *, usable: bool) -> None:
        """Add an answer."""
        used, at = usage(row), row.answered_at
        cost = price.cost_usd(used) if price else None
        self.answers += 1
        self.usable += usable
        self.attempts += row.attempts
        self.without_usage += used is None
        if used:
            self.input_tokens += used.input_tokens
            self.cached_tokens += used.cached_tokens
            self.output_tokens += used.output_tokens
        self.cost_usd = None if cost is None or self.cost_usd is None else self.cost_usd + cost
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)

    def to_plain(self) -> dict[str, Any]:
        """Return the sums as JSON has them, dates in ISO form, UTC."""
        dates = {"first": date(self.first), "last": date(self.last)}
        return vars(self) | {"usd_per_usable": self.usd_per_usable} | dates


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Sums by judge and served model, and over all. `judges` holds what the ledger says of each judge."""

    judges: Mapping[str, Mapping[str, Any]]
    served: Mapping[tuple[str, str], Sums]
    total: Sums

    def to_plain(self) -> dict[str, Any]:
        """Return all as JSON has it."""
        judges = [
            {"judge": judge, "description": dict(description), "served_models": self._served_by(judge)}
            for judge, description in self.judges.items()
        ]
        return {"judges": judges, "total": self.total.to_plain()}

    def _served_by(self, judge: str) -> list[dict[str, Any]]:
        found = ((model, sums) for (of, model), sums in self.served.items() if of == judge)
        return [{"served_model": model} | sums.to_plain() for model, sums in found]


def statistics(
    rows: Iterable[StoredAnswer],
    stated: Sequence[Any] = (),
    *,
    prices_of_all: Price | None = None,
    mass_floor: float = 0.5,
) -> Statistics:
    """Sum answers up; `stated` are the settings of judges whose prices count before the list's, and `prices_of_all`
    before these.
    """
    judges: dict[str, Mapping[str, Any]] = {}
    prices: dict[str, Price | None] = {}
    served: dict[tuple[str, str], Sums] = {}
    total = Sums()
    for row in rows:
        if row.judge not in judges:
            judges[row.judge] = described(row)
            prices[row.judge] = prices_of_all or price(judges[row.judge], stated)
        verdict = reread(row, mass_floor)
        for sums in (total, served.setdefault((row.judge, row.served_model), Sums())):
            sums.add(row, prices[row.judge], usable=verdict is not None and verdict.status == "ok")
    return Statistics(judges=judges, served=served, total=total)


def label(judge: str, description: Mapping[str, Any]) -> str:
    """Return a readable name of a judge: model, address, labels other than grades, the first words of its
    rubric, the start of its id.
    """
    if not description:
        return f"unknown judge ({judge[:8]})"
    words = str(description.get("rubric", "")).split()
    rubric = " ".join(words[:_RUBRIC_WORDS]) + " ..." * (len(words) > _RUBRIC_WORDS)
    place = f" at {description['endpoint']}" if "endpoint" in description else ""
    kind = "".join(f", {description[key]}" for key in ("channel", "labels") if key in description)
    return f'{description.get("model")}{place}{kind}, "{rubric}" ({judge[:8]})'


def date(seconds: float | None) -> str | None:
    """Write Unix seconds as an ISO date, UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
