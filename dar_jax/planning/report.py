"""Print a plan as tables, or convert it to plain values."""

import dataclasses
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from dar_jax.judging.money.prices import amount
from dar_jax.planning.advice import Suggestion
from dar_jax.planning.plan import Plan, ProgramPlan
from dar_jax.planning.topologies import GIB


def to_plain(plan: Plan, suggestions: Sequence[Suggestion] = ()) -> dict[str, Any]:
    """Return a plan as plain values: bytes, FLOPs and seconds per chip and call, and totals of the step."""
    chip = dataclasses.asdict(plan.topology.chip)
    return {
        "topology": plan.topology.name,
        "chips": plan.topology.chips,
        "chip": {name: value for name, value in chip.items() if name not in ("topologies", "core")},
        "mesh": plan.mesh,
        "versions": {name: version(name) for name in ("jax", "jaxlib", "libtpu")},
        "parameters": plan.parameters,
        "fits": plan.fits,
        "warning": plan.warning,
        "ways_out": [dataclasses.asdict(each) for each in suggestions],
        "held_bytes": plan.holdings,
        "cache_bytes": plan.cache_bytes,
        "resume_bytes": plan.resume_bytes,
        "programs": [_program(each, plan) for each in plan.programs],
        "judge": dataclasses.asdict(plan.judge) if plan.judge else None,
        "step": {"rows": plan.config.rows_per_step, "device_s": plan.device_s, "seconds": plan.step_s},
        "run": {
            "steps": plan.config.steps,
            "hours": _hours(plan),
            "chip_hours": _chip_hours(plan),
            "dollars": _dollars(plan),
        },
        "assumptions": dataclasses.asdict(plan.assumptions),
    }


def show(plan: Plan, suggestions: Sequence[Suggestion], console: Console) -> None:
    """Print the tables and a summary."""
    console.print(_heading(plan), _memory(plan), _work(plan), sep="\n\n")
    warned = (f"Warning: {plan.warning}.",) if plan.warning else ()
    for line in (*_step(plan), *warned, *_verdict(plan, suggestions)):
        console.print(line, highlight=False)


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
        "read_bytes": work.total.read_bytes if work else None,
        "written_bytes": work.total.written_bytes if work else None,
        "collective_bytes": work.total.collective_bytes if work else None,
        "open_loop": _open_loop(each),
        "kernels": work.total.kernels if work else None,
        "unknown_loops": work.unknown_loops if work else None,
        "seconds": dataclasses.asdict(each.seconds) | {"bound": each.seconds.bound} if each.seconds else None,
        "lower_s": compiled.lower_s,
        "compile_s": compiled.compile_s,
        "compile_cpu_s": compiled.compile_cpu_s,
    }


def _open_loop(each: ProgramPlan) -> dict[str, Any] | None:
    work = each.compiled.work
    if work is None or work.open_body is None:
        return None
    return {"trips": work.open_trips, **dataclasses.asdict(work.open_body)}


def _heading(plan: Plan) -> str:
    chip, mesh = plan.topology.chip, ", ".join(f"{name} {size}" for name, size in plan.mesh.items())
    return (
        f"{plan.topology.name}: {plan.topology.chips} chips of {chip.hbm_bytes / GIB:.2f} GiB, mesh {mesh};"
        f" {plan.parameters / 1e9:.3f} billion parameters, {plan.config.rows_per_step} completions a step"
    )


def _memory(plan: Plan) -> Table:
    names = ("arguments", "outputs", "temps", "code", "resident", "total", "fits", "compile s")
    table = _table("Memory of a chip, GiB, while each program runs", *names)
    for each in plan.programs:
        found = each.compiled.bytes
        own = (found.arguments, found.outputs - found.aliased, found.temporaries, found.code) if found else ()
        cells = [_gib(size) for size in own] or ["", "", "too large", ""]
        table.add_row(
            each.compiled.name,
            *cells,
            _gib(sum(each.resident.values())),
            _gib(each.needed),
            "yes" if each.needed <= plan.topology.chip.hbm_bytes else "NO",
            f"{each.compiled.compile_s:.1f}",
        )
    fits = "yes" if plan.resume_bytes <= plan.topology.chip.hbm_bytes else "NO"
    table.add_row("resume", "", "", "", "", "", _gib(plan.resume_bytes), fits, "")
    return table


def _work(plan: Plan) -> Table:
    names = ("calls", "TFLOP", "x ideal", "HBM GB", "ICI GB", "MXU s", "HBM s", "ICI s", "bound s")
    table = _table("Work of a chip, each call, and the least time it takes", *names)
    for each in plan.programs:
        work, seconds = each.compiled.work, each.seconds
        if work is None or seconds is None:
            continue
        sent = sum(work.total.collective_bytes.values())
        table.add_row(
            each.compiled.name,
            str(each.compiled.calls),
            _short(work.total.flops / 1e12),
            f"{each.flops_ratio:.2f}" if each.flops_ratio else "",
            _short(work.total.hbm_bytes / 1e9),
            _short(sent / 1e9),
            *map(_short, (seconds.compute, seconds.memory, seconds.collectives, seconds.bound)),
        )
    return table


def _step(plan: Plan) -> Iterator[str]:
    share = plan.assumptions.roofline_share
    if plan.unreadable:
        names = ", ".join(plan.unreadable)
        yield (
            f"jaxlib {version('jaxlib')} cannot read these programs of libtpu {version('libtpu')}: {names}; so their"
            " costs are unknown; pip install 'dar-jax[tpu]' installs the matching libtpu."
        )
    if plan.without_kernel_flops:
        yield f"The FLOPs of {', '.join(plan.without_kernel_flops)} exclude custom kernels without a cost estimate."
    if plan.step_s is not None:
        yield (
            f"A step takes {_time(plan.device_s)} on the device, {_time(plan.step_s)} with its judge, if programs reach"
            f" {share:.0%} of the bound (the longest of the three, ICI along one axis of the torus)."
        )
    if judge := plan.judge:
        yield (
            f"Its judge gets at most {judge.calls:,} calls, about {judge.tokens_in:,} tokens in and"
            f" {judge.tokens_out:,} out: {_usd(judge.dollars)}, {_time(judge.seconds)} if a call takes"
            f" {plan.assumptions.judge_latency_s:g} s."
        )
    if (hours := _hours(plan)) is not None:
        steps, dollars = plan.config.steps, _usd(_dollars(plan))
        yield f"{steps} steps: {hours:,.1f} hours, {_chip_hours(plan):,.0f} chip-hours, {dollars} to the judge."


def _verdict(plan: Plan, suggestions: Sequence[Suggestion]) -> Iterator[str]:
    limit = plan.topology.chip.hbm_bytes
    if plan.fits:
        yield f"It fits: at most {_gib(plan.largest.needed)} of {_gib(limit)} GiB ({plan.largest.compiled.name})."
        return
    for each in plan.too_large:
        yield f"{each.compiled.name} needs {_gib(each.needed)} GiB, {_gib(each.needed - limit)} more than a chip has."
    yield "It does not fit into memory."
    for change in suggestions:
        where = [
            *change.settings,
            *([f"--topology {change.topology}"] if change.topology != plan.topology.name else []),
        ]
        verb = "it fits with" if change.fits else "it does not fit even with"
        yield f"  {verb} {' '.join(where)}: {_gib(change.needed)} GiB ({change.program})"
    if not suggestions:
        yield "  no setting and no larger slice that was tried makes it fit"


def _table(title: str, *names: str) -> Table:
    columns = (Column(name, justify="right") for name in names)
    return Table(
        Column("program", no_wrap=True), *columns, title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0)
    )


def _hours(plan: Plan) -> float | None:
    return None if plan.step_s is None else plan.config.steps * plan.step_s / 3600


def _chip_hours(plan: Plan) -> float | None:
    hours = _hours(plan)
    return None if hours is None else hours * plan.topology.chips


def _dollars(plan: Plan) -> float | None:
    if plan.judge is None:
        return 0.0
    return None if plan.judge.dollars is None else plan.config.steps * plan.judge.dollars


def _gib(size: float) -> str:
    return _short(size / GIB)


def _short(value: float) -> str:
    return f"{value:.1f}" if value >= 99.95 else f"{value:.2f}" if value >= 0.095 else f"{value:.1g}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _usd(usd: float | None) -> str:
    return "an unknown price" if usd is None else f"${amount(usd)}"
