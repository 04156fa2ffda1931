"""A comparison as plots: curves over annotations, and the two axes of a sweep as a map. They need matplotlib."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]

_LABELS = {"held_out": "held-out reward", "win_rate": "win rate", "kl": "KL"}


def write_curves(rows: Sequence[Row], file: Path, measure: str = "held_out") -> None:
    """Draw one judge's held-out reward, or its `win_rate`, over annotations, with its interval: a panel a row, before
    the first row's in grey. One that asks no judge is drawn as a level, where it ended. Needs matplotlib.
    """
    columns = min(5, len(rows))
    lines = math.ceil(len(rows) / columns)
    figure = _figure(2.6 * columns + 0.4, 2.2 * lines + 0.4)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, row in itertools.zip_longest(panels, rows):
        if row is None:
            axes.remove()
            continue
        _curve(axes, rows[0], measure, "0.6")
        if row is not rows[0]:
            _curve(axes, row, measure, "C0")
        if measure == "held_out":
            axes.axhline(_known(row["level"]), color="0.8", linestyle="--", linewidth=1)
        axes.set_title(row["name"], fontsize="medium")
    for lowest in panels[len(rows) - columns : len(rows)]:
        lowest.tick_params(labelbottom=True)
    figure.supxlabel("annotations")
    figure.supylabel(_LABELS[measure])
    _save(figure, file)


def write_heat_map(rows: Sequence[Row], file: Path) -> None:
    """Draw held-out reward and KL over the two axes of a sweep. Needs matplotlib."""
    figure = _figure(11, 4.5)
    for axes, name in zip(figure.subplots(1, 2), ("held_out", "kl"), strict=True):
        _heat_map(figure, axes, rows, name)
    _save(figure, file)


def axes_of(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """List the keys of a sweep, each with the values that rows have."""
    found: dict[str, list[Any]] = {}
    for key, value in (item for row in rows for item in row["point"].items()):
        if value not in found.setdefault(key, []):
            found[key].append(value)
    return found


def plot_name(kind: str, judge: str) -> str:
    """Return the file name of a plot."""
    return f"{kind}-{judge}.svg" if judge else f"{kind}.svg"


def _curve(axes: Any, row: Row, measure: str, color: str) -> None:
    points = row["curve"]
    low, value, high = ([_known(point[measure][key]) for point in points] for key in ("low", "value", "high"))
    if points[-1]["annotations"]:
        x = [point["annotations"] for point in points]
        axes.plot(x, value, color=color)
        axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    else:
        axes.axhline(value[-1], color=color)
        axes.axhspan(low[-1], high[-1], color=color, alpha=0.2, linewidth=0)


def _heat_map(figure: Any, axes: Any, rows: Sequence[Row], name: str) -> None:
    (first, ys), (second, xs) = axes_of(rows).items()
    found = {(str(row["point"][first]), str(row["point"][second])): _known(row[name]["value"]) for row in rows}
    grid = [[found.get((str(y), str(x)), math.nan) for x in xs] for y in ys]
    figure.colorbar(axes.imshow(grid, aspect="auto"), ax=axes)
    behind = {"facecolor": "w", "alpha": 0.7, "edgecolor": "none"}
    for (row, line), column in itertools.product(enumerate(grid), range(len(xs))):
        axes.text(column, row, f"{line[column]:.2f}", ha="center", va="center", bbox=behind)
    axes.set_xticks(range(len(xs)), list(map(str, xs)))
    axes.set_yticks(range(len(ys)), list(map(str, ys)))
    axes.set(xlabel=second, ylabel=first, title=_LABELS[name])


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, file: Path) -> None:
    import matplotlib

    # Without these two the same figures would make another file each time.
    with matplotlib.rc_context({"svg.hashsalt": "dar-jax"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
