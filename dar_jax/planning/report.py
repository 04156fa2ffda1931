"""A plan for people, as tables, and for machines, as plain values."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from dar_jax.planning.plan import Plan, ProgramPlan
from dar_jax.planning.topologies import GIB


def to_plain(plan: Plan) -> dict[str, Any]:
    """Return all of a plan as plain values: bytes, FLOPs and seconds per chip and call, the step's in all."""
    chip = dataclasses.asdict(plan.topology.chip)
    return {
        "topology": plan.topology.name,
        "chips": plan.topology.chips,
        "chip": {name: value for name, value in chip.items() if name not in ("topologies", "core")},
        "mesh": plan.mesh,
        "parameters": plan.parameters,
        "fits": plan.fits,
        "advice": plan.advice,
        "held_bytes": plan.holdings,
        "programs": [_program(each, plan) for each in plan.programs],
        "judge": dataclasses.asdict(plan.judge) if plan.judge else None,
        "step": {"rows": plan.rows, "device_s": plan.device_s, "seconds": plan.step_s},
        "run": {"steps": plan.steps, "hours": _hours(plan), "chip_hours": _chip_hours(plan), "dollars": _dollars(plan)},
        "assumptions": dataclasses.asdict(plan.assumptions),
    }


def show(plan: Plan, console: Console) -> None:
    """Print the tables."""
    console.print(Group(_heading(plan), _memory(plan), _work(plan), *_closing(plan)))


def _program(each: ProgramPlan, plan: Plan) -> dict[str, Any]:
    compiled, work = each.compiled, each.compiled.work
    return {
        "name": compiled.name,
        "calls": compiled.calls,
        "bytes": dataclasses.asdict(compiled.bytes) | {"total": compiled.bytes.total} if compiled.bytes else None,
        "resident_bytes": each.resident,
        "needed_bytes": each.needed,
        "fits": each.needed <= plan.topology.chip.hbm_bytes,
        "flops": work.total.flops if work else None,
        "ideal_flops": each.ideal_flops,
        "flops_ratio": each.flops_ratio,
        "hbm_bytes": work.total.hbm_bytes if work else None,
        "collective_bytes": work.total.collective_bytes if work else None,
        "open_loop": _open_loop(each),
        "unknown_loops": work.unknown_loops if work else None,
        "seconds": dataclasses.asdict(each.seconds) | {"bound": each.seconds.bound} if each.seconds else None,
        "lower_s": compiled.lower_s,
        "compile_s": compiled.compile_s,
    }


def _open_loop(each: ProgramPlan) -> dict[str, Any] | None:
    work = each.compiled.work
    if work is None or work.open_body is None:
        return None
    return {"trips": work.open_trips, **dataclasses.asdict(work.open_body)}


def _heading(plan: Plan) -> Text:
    chip, mesh = plan.topology.chip, ", ".join(f"{name} {size}" for name, size in plan.mesh.items())
    return Text(
        f"{plan.topology.name}: {plan.topology.chips} chips of {chip.hbm_bytes / GIB:.2f} GiB, mesh {mesh};"
        f" {plan.parameters / 1e9:.3f} billion parameters, {plan.rows} completions a step"
    )


def _memory(plan: Plan) -> Table:
    table = Table(
        "program",
        *_right("arguments", "outputs", "temporaries", "code", "resident", "needed", "fits", "compiled in"),
        title="Memory, GiB a chip",
        title_justify="left",
    )
    for each in plan.programs:
        found = each.compiled.bytes
        own = (found.arguments, found.outputs - found.aliased, found.temporaries, found.code) if found else ()
        cells = [_gib(size) for size in own] or ["", "", "too large", ""]
        fits = "yes" if each.needed <= plan.topology.chip.hbm_bytes else "NO"
        beside = _gib(sum(each.resident.values()))
        table.add_row(each.compiled.name, *cells, beside, _gib(each.needed), fits, f"{each.compiled.compile_s:.1f} s")
    return table


def _work(plan: Plan) -> Table:
    table = Table(
        "program",
        *_right("calls", "TFLOP", "of ideal", "HBM GB", "ICI GB", "compute s", "memory s", "ICI s", "bound s"),
        title="Work of a chip, each call",
        title_justify="left",
    )
    for each in plan.programs:
        work, seconds = each.compiled.work, each.seconds
        if work is None or seconds is None:
            continue
        sent = sum(work.total.collective_bytes.values())
        table.add_row(
            each.compiled.name,
            str(each.compiled.calls),
            f"{work.total.flops / 1e12:.2f}",
            f"{each.flops_ratio:.2f}" if each.flops_ratio else "",
            f"{work.total.hbm_bytes / 1e9:.1f}",
            f"{sent / 1e9:.1f}",
            *(f"{value:.3f}" for value in (seconds.compute, seconds.memory, seconds.collectives, seconds.bound)),
        )
    return table


def _closing(plan: Plan) -> list[Text]:
    assumed = plan.assumptions
    lines = []
    if plan.step_s is not None:
        lines.append(
            f"A step: {_time(plan.device_s)} on the device at {assumed.roofline_share:.0%} of the roofline"
            f" (bound: the longest of compute, memory, ICI along one axis of the torus); {_time(plan.step_s)} in all."
        )
    if judge := plan.judge:
        dollars = "unknown" if judge.dollars is None else f"${judge.dollars:.4f}"
        lines.append(
            f"Its judge: at most {judge.calls} calls, {judge.tokens_in} tokens in and {judge.tokens_out} out,"
            f" {dollars}; {_time(judge.seconds)} at {assumed.judge_latency_s:g} s a call."
        )
    if (hours := _hours(plan)) is not None:
        total = _dollars(plan)
        dollars = "unknown" if total is None else f"${total:,.2f}"
        lines.append(
            f"The run: {plan.steps} steps, {hours:.1f} hours, {_chip_hours(plan):.0f} chip-hours, judge {dollars}."
        )
    lines.append("It fits." if plan.fits else "It does not fit.")
    return [Text(line) for line in (*lines, *plan.advice)]


def _hours(plan: Plan) -> float | None:
    return None if plan.step_s is None else plan.steps * plan.step_s / 3600


def _chip_hours(plan: Plan) -> float | None:
    hours = _hours(plan)
    return None if hours is None else hours * plan.topology.chips


def _dollars(plan: Plan) -> float | None:
    if plan.judge is None:
        return 0.0
    return None if plan.judge.dollars is None else plan.steps * plan.judge.dollars


def _right(*names: str) -> Sequence[Any]:
    from rich.table import Column

    return [Column(name, justify="right") for name in names]


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
