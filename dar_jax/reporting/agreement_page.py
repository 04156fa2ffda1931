"""How far judges agree with people, as a table for the terminal and as a page with plots."""

import html
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from dar_jax.judging.money.prices import amount
from dar_jax.terminal.visible import visible

Row = Mapping[str, Any]

_STYLE = "body{font:16px/1.5 sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}td,th{padding:.2rem .8rem;\
text-align:right}td:first-child,th:first-child{text-align:left}svg{max-width:100%;height:auto}"
_EXPLAINED = (
    "Accuracy: how often the judge prefers what people chose, a tie counting one half, with its 95 % Wilson interval."
    " Kappa: Cohen's, agreement beyond chance. Flips: pairs whose preferred side changes with the order they are shown"
    " in. First: answers that named the completion shown first, one half without bias. Longer: how often the judge"
    " prefers the longer of two, and people; their difference is its bias. Brier: mean squared error of its belief."
)


def table(rows: Sequence[Row]) -> Table:
    """Return a table with a row a judge and label mode."""
    found = Table(*_HEADINGS, box=SIMPLE)
    for row in rows:
        found.add_row(*(escape(visible(cell)) for cell in _cells(row)))
    return found


def write_page(rows: Sequence[Row], data: str, file: Path) -> None:
    """Write the page: the table, accuracy with its intervals, and calibration. Needs matplotlib."""
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in _HEADINGS)
    lines = ("".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(row)) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    judges = "".join(f"<li>{html.escape(_name(row))}: {html.escape(row['judge'])}</li>" for row in rows)
    file.write_text(
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Agreement with people</title>"
        f"<style>{_STYLE}</style><h1>Agreement with people</h1><p>{html.escape(data)}</p>"
        f"<table><tr>{heads}</tr>{body}</table><p>{html.escape(_EXPLAINED)}</p><ul>{judges}</ul>"
        f"{_accuracy(rows)}{_calibration(rows)}</html>\n",
        encoding="utf-8",
    )


_HEADINGS = (
    *("judge", "pairs", "accuracy", "95 %", "ties", "kappa", "flips", "first", "longer: judge", "people", "Brier"),
    *("answers", "US dollars", "a label"),
)


def _name(row: Row) -> str:
    return f"{row['name']}, {row['labels']}"


def _cells(row: Row) -> list[str]:
    of = row["agreement"]
    interval = "" if of["low"] is None else f"{of['low']:.1%} to {of['high']:.1%}"
    ties = f"{of['ties'] / of['judged']:.1%}" if of["judged"] else ""
    shares = (_share(of[name]) for name in ("flip_rate", "chose_first", "longer", "longer_people"))
    return [
        _name(row),
        f"{of['judged']:,} of {of['pairs']:,}",
        _share(of["accuracy"]),
        interval,
        ties,
        _number(of["kappa"]),
        *shares,
        _number(of["brier"]),
        f"{row['annotations']:,}",
        _dollars(row["cost_usd"]),
        _dollars(row["cost_per_label_usd"]),
    ]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _dollars(value: float | None) -> str:
    return "unknown" if value is None else amount(value)


def _accuracy(rows: Sequence[Row]) -> str:
    figure = _figure(8, 1 + 0.5 * len(rows))
    axes = figure.subplots()
    # The first row on top; every judge in the colour that it has in the other plot.
    for place, (index, row) in enumerate(reversed(list(enumerate(rows)))):
        of = row["agreement"]
        if of["accuracy"] is not None:
            reach = [[of["accuracy"] - of["low"]], [of["high"] - of["accuracy"]]]
            axes.errorbar([of["accuracy"]], [place], xerr=reach, fmt="o", capsize=4, color=f"C{index}")
    axes.set_yticks(range(len(rows)), [_name(row) for row in reversed(rows)])
    axes.axvline(0.5, color="0.7", linestyle="--")
    axes.set(xlabel="accuracy", xlim=(0, 1), ylim=(-0.5, len(rows) - 0.5))
    return _svg(figure)


def _calibration(rows: Sequence[Row]) -> str:
    figure = _figure(6, 5)
    axes = figure.subplots()
    axes.plot([0.5, 1], [0.5, 1], color="0.7", linestyle="--", label="as sure as right")
    for index, row in enumerate(rows):
        bins = [each for each in row["agreement"]["calibration"] if each["count"]]
        sizes = [20 * math.log1p(each["count"]) for each in bins]
        points = [each["confidence"] for each in bins], [each["accuracy"] for each in bins]
        axes.plot(*points, label=_name(row), color=f"C{index}")
        axes.scatter(*points, s=sizes, color=f"C{index}")
    axes.set(xlabel="how sure the judge was", ylabel="how often it was right", xlim=(0.48, 1.02), ylim=(-0.02, 1.02))
    axes.legend()
    return _svg(figure)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Any) -> str:
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    text = drawn.getvalue()
    return text[text.index("<svg") :]
