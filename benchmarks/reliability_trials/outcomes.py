"""What a trial came to, and the table over all of them."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One trial. `held`: nothing paid or computed was lost, and nothing wrong went on in silence."""

    kind: str
    case: str
    held: bool
    detail: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    ended: float = field(default_factory=time.perf_counter)


def summary(outcomes: Iterable[Outcome], began: float) -> list[dict[str, object]]:
    """Return a row a kind: trials, those held, those lost, seconds, and the sums of their figures."""
    rows: dict[str, dict[str, object]] = {}
    last = began
    for each in outcomes:
        row = rows.setdefault(each.kind, {"kind": each.kind, "tried": 0, "held": 0, "lost": [], "seconds": 0.0})
        row["tried"] = int(str(row["tried"])) + 1
        row["held"] = int(str(row["held"])) + each.held
        row["seconds"] = float(str(row["seconds"])) + each.ended - last
        last = each.ended
        if not each.held:
            row["lost"] = [*_listed(row["lost"]), f"{each.case}: {each.detail}"]
        for name, value in each.figures.items():
            row[name] = float(str(row.get(name, 0.0))) + value
    return [{**row, "seconds": round(float(str(row["seconds"])), 1)} for row in rows.values()]


def table(rows: Iterable[dict[str, object]]) -> str:
    """Return the summary as lines of text."""
    known = ("kind", "tried", "held", "lost", "seconds")
    lines = [f"{'trials':<22}{'tried':>7}{'held':>7}{'lost':>7}{'seconds':>9}  figures"]
    for row in rows:
        more = "  ".join(f"{name} {float(str(value)):g}" for name, value in row.items() if name not in known)
        lost = len(_listed(row["lost"]))
        lines.append(
            f"{row['kind']:<22}{row['tried']:>7}{row['held']:>7}{lost:>7}{float(str(row['seconds'])):>9.1f}  {more}"
        )
    return "\n".join(lines)


def _listed(lost: object) -> list[str]:
    assert isinstance(lost, list)
    return lost
