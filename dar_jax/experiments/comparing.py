"""Run a comparison or a sweep and write comparison.json, comparison.md and plots."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dar_jax.experiments.cells import Cell, ExperimentPlan
from dar_jax.experiments.devices import shares
from dar_jax.experiments.grid import Changes, at_an_end, written
from dar_jax.experiments.running import Running, check_unchanged, is_finished
from dar_jax.experiments.summary import best_points, groups, summary
from dar_jax.reporting.comparison_page import by_judge, write_page
from dar_jax.reporting.comparison_plots import axes_of, plot_name, write_curves, write_heat_map
from dar_jax.runlog.new_file import output_folder
from dar_jax.terminal.console import Console
from dar_jax.terminal.json_text import plain

Rows = list[dict[str, Any]]


def compare(plan: ExperimentPlan, jobs: int, console: Console) -> tuple[Rows, int]:
    """Run the unfinished runs of a comparison and write its files; return the rows and the number still missing.

    Raises SettingError before anything runs if a run in the folder differs, Interrupted at a signal.
    """
    best: Mapping[tuple[str, str], Changes] = {}
    devices, tuning, missing = shares(jobs), plan.tuning(), 0
    if tuning:
        missing = _run(plan, tuning, devices, console)
        best = best_points(tuning, plan.folder)
        for (judge, name), point in best.items():
            console.note(f"best for {name}{f' under {judge}' if judge else ''}: {_chosen(point, plan)}")
    cells = plan.compared(best)
    missing += _run(plan, cells, devices, console)
    return _write(plan, cells, console), missing


def sweep(plan: ExperimentPlan, grid: Mapping[str, Sequence[Any]], jobs: int, console: Console) -> tuple[Rows, int]:
    """Run the unfinished runs of a sweep and write its files, as `compare` does."""
    devices, cells = shares(jobs), plan.swept(grid)
    missing = _run(plan, cells, devices, console)
    return _write(plan, cells, console), missing


def _run(plan: ExperimentPlan, cells: Sequence[Cell], devices: Sequence[Mapping[str, str]], console: Console) -> int:
    output_folder(plan.folder)
    check_unchanged(cells, plan.folder)
    for line in dict.fromkeys(_forecast(cell) for cell in cells):
        console.note(line)
    console.note(f"{len(cells)} runs, {sum(is_finished(cell, plan.folder) for cell in cells)} of them done")
    return Running(cells, plan.folder, devices).run(console.note)


def _chosen(point: Changes, plan: ExperimentPlan) -> str:
    ends = at_an_end(point, plan.comparison.grid or {})
    beyond = f", an end of the grid in {', '.join(ends)}: a wider one may have a better point"
    return f"{written(point)}{beyond if ends else ''}"


def _forecast(cell: Cell) -> str:
    config, each = cell.config, cell.asked_a_step
    size = f"{config.steps:,} steps of {config.prompts_per_step} prompts x {config.group_size if config.online else 1}"
    return f"{cell.name}: {size}, {each:,} annotations a step, {each * config.steps:,} in all"


def _write(plan: ExperimentPlan, cells: Sequence[Cell], console: Console) -> Rows:
    rows = summary(groups(cells, plan.folder), plan.comparison.level)
    report = {"annotations": plan.annotations, "rows": rows}
    file = plan.folder / "comparison.json"
    file.write_text(json.dumps(plain(_told(report)), indent=1) + "\n", encoding="utf-8")
    plots = _plots(rows, plan.folder) if find_spec("matplotlib") else {}
    if not plots and rows:
        console.note("no plots: pip install 'dar-jax[plots]', and give the command again")
    write_page(plan.where, rows, plots, plan.folder / "comparison.md")
    return rows


def _plots(rows: Rows, folder: Path) -> dict[str, list[str]]:
    drawn: dict[str, list[str]] = {}
    for judge, same in by_judge(rows):
        kinds: list[tuple[str, Callable[[Any, Path], None]]] = [
            ("curves", write_curves),
            ("win-rates", partial(write_curves, measure="win_rate")),
        ]
        if all(row["name"] == written(row["point"]) for row in same) and len(axes_of(same)) == 2:
            kinds.append(("heat-map", write_heat_map))
        for kind, write in kinds:
            write(same, folder / plot_name(kind, judge))
            drawn.setdefault(judge, []).append(plot_name(kind, judge))
    return drawn


def _told(value: Any) -> Any:
    """Return `never` for infinity, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: _told(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    return "never" if value == math.inf else value
