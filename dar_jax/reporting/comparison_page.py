"""A comparison as a table for the terminal, and as a Markdown page with plots beside it."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from dar_jax.judging.money.prices import amount
from dar_jax.terminal.visible import visible

Row = Mapping[str, Any]

EXPLAINED = """\
Each figure is the mean over the runs of an algorithm, which differ in their seed, with Student's 95 % interval over
them. Held-out reward, win rate against the start (a tie counts one half) and length in tokens are of the last
evaluation; training reward, KL to the reference (nats a completion) and the share of completions without EOS are means
over the steps since the evaluation before it; the training reward under a judge that compares is one half whatever is
learnt. An annotation is one question to the training judge: a grade is one, a
pair asked in both orders is two, and what the ledger answered for nothing counts too. Annotations to a level are those
before the mean held-out reward over the seeds first reaches it, between two evaluations by a straight line; `never`:
it does not. The ratio divides them by the first algorithm's on the same seeds. Their 95 % intervals are of a bootstrap
over seeds (10,000 draws, percentiles), which with few seeds is too narrow rather than too wide. Paid answers and US
dollars are what a run paid itself: an answer bought by another run of this folder was free, and a request that the
server turned away is no answer. `a reward` divides the dollars by the rewards that the run got.
"""
_FIGURES: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "training": ("training reward", "{:.2f}".format),
    "held_out": ("held-out reward", "{:.2f}".format),
    "win_rate": ("win rate", "{:.1%}".format),
    "kl": ("KL", "{:.2f}".format),
    "length": ("length", "{:.1f}".format),
    "missing_eos": ("no EOS", "{:.1%}".format),
    "to_level": ("annotations to level", "{:,.0f}".format),
    "ratio": ("ratio", "{:.2f}".format),
}
_PLAIN: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "billed": ("paid", "{:,.0f}".format),
    "dollars": ("US dollars", amount),
    "usd_per_reward": ("a reward", amount),
}
HEADINGS = ("name", "runs", "annotations", *(heading for heading, _ in (*_FIGURES.values(), *_PLAIN.values())))


def tables(rows: Sequence[Row]) -> list[Table]:
    """Return a table a judge, with a row an algorithm or point."""
    found = []
    for judge, same in by_judge(rows):
        table = Table(*HEADINGS, box=SIMPLE, title=_title(judge, same), title_justify="left")
        for row in same:
            table.add_row(*(escape(visible(cell)) for cell in _cells(row)))
        found.append(table)
    return found


def write_page(title: str, rows: Sequence[Row], plots: Mapping[str, Sequence[str]], file: Path) -> None:
    """Write the tables as Markdown; `plots` names each judge's files beside it."""
    parts = [f"# {title}\n"]
    for judge, same in by_judge(rows):
        lines = [HEADINGS, ["---"] * len(HEADINGS), *(_cells(row) for row in same)]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        pictures = "\n".join(f"![{name}]({name})" for name in plots.get(judge, ()))
        parts.append(f"## {_title(judge, same)}\n\n{body}\n\n{pictures}\n".rstrip() + "\n")
    file.write_text("\n".join([*parts, EXPLAINED]), encoding="utf-8")


def by_judge(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Return the rows grouped by judge."""
    return [(judge, list(same)) for judge, same in itertools.groupby(rows, lambda row: row["judge"])]


def _title(judge: str, rows: Sequence[Row]) -> str:
    level = f"level {rows[0]['level']:.2f}" if _is_number(rows[0]["level"]) else "no level"
    return f"judge {judge}, {level}" if judge else level


def _cells(row: Row) -> list[str]:
    runs = f"{row['runs']}" if row["runs"] == row["planned"] else f"{row['runs']} of {row['planned']}"
    figures = [_interval(row[name], form) for name, (_, form) in _FIGURES.items()]
    return [
        f"{row['name']} ({row['tuned']})" if row["tuned"] else row["name"],
        runs,
        f"{row['annotations']:,}",
        *figures,
        *(_one(row[name]["value"], form) for name, (_, form) in _PLAIN.items()),
    ]


def _interval(estimate: Row, form: Callable[[float], str]) -> str:
    value = _one(estimate["value"], form)
    known = all(_is_number(estimate[key]) or estimate[key] == math.inf for key in ("low", "high"))
    return f"{value} ({_one(estimate['low'], form)} to {_one(estimate['high'], form)})" if known else value


def _one(value: float | None, form: Callable[[float], str]) -> str:
    if value == math.inf:
        return "never"
    return "" if value is None or not math.isfinite(value) else form(value)


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
