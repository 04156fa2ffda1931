"""Changes with which a run fits into memory, each one compiled before it is suggested."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from dar_jax.config.run_config import RunConfig, to_plain, validate
from dar_jax.errors import SettingError
from dar_jax.planning.compile import STAGES, Programs, Progress
from dar_jax.planning.plan import Plan, make_plan
from dar_jax.planning.residents import holdings, minimum_bytes
from dar_jax.planning.topologies import Topology
from dar_jax.run.build import read_decoder

_LARGER_SLICES = 4  # how many to try; each has twice the chips of the one before
_SHARED_BY_OPTIMIZERS = ("learning_rate", "warmup_updates")


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A change of settings or of the slice, the program that then needs the most memory, and its bytes."""

    settings: tuple[str, ...]
    topology: str
    program: str
    needed: int
    fits: bool


@dataclass(frozen=True)
class Attempt:
    """A run with changed settings, listed in `changes`, on a slice; `plan` is what was compiled of it."""

    config: RunConfig
    topology: Topology
    changes: tuple[str, ...] = ()
    plan: Plan | None = None

    def suggestion(self) -> Suggestion:
        """Return the result as a suggestion."""
        assert self.plan is not None
        largest = self.plan.largest
        return Suggestion(
            settings=self.changes,
            topology=self.topology.name,
            program=largest.compiled.name,
            needed=largest.needed,
            fits=self.plan.fits,
        )


def suggest_changes(config: RunConfig, plan: Plan, progress: Progress) -> list[Suggestion]:
    """Find settings with which the run fits its slice, and the smallest larger slice on which it fits unchanged.

    Settings are changed one after the other and kept if they help; a plan that fits is compiled completely. If the
    settings do not suffice, the suggestion has `fits` False and the memory that they reach.
    """
    found = [_by_settings(Attempt(config, plan.topology, plan=plan), progress), _by_slice(config, plan, progress)]
    return [attempt.suggestion() for attempt in found if attempt is not None]


def _by_settings(start: Attempt, progress: Progress) -> Attempt | None:
    best = start
    for setting, value in _settings(start):
        attempt = _compiled(_changed(best, setting, value), _failing(best), progress)
        if attempt and _excess(attempt) < _excess(best):
            best = attempt
        if best.plan and best.plan.fits:
            alone = (
                _compiled(_changed(start, setting, value), _failing(start), progress) if len(best.changes) > 1 else None
            )
            return alone if alone and alone.plan and alone.plan.fits else best
    return best if best.changes else None


def _by_slice(config: RunConfig, plan: Plan, progress: Progress) -> Attempt | None:
    for topology in plan.topology.larger()[:_LARGER_SLICES]:
        attempt = _compiled(_refitted(config, topology), _failing(Attempt(config, topology, plan=plan)), progress)
        if attempt and attempt.plan and attempt.plan.fits:
            return attempt
    return None


def _settings(start: Attempt) -> Iterator[tuple[str, Any]]:
    """Yield changes to try: first those that keep the run's numbers, cheapest first, then the others."""
    config, mesh, failing = start.config, start.plan.mesh if start.plan else {}, _failing(start)
    learning = config.learning
    if "regress" in failing:
        if not learning.remat:
            yield "learning.remat", True
        yield from (("learning.micro_batch_size", size) for size in _smaller_micro_batches(config, mesh))
    if set(failing) - {"recall"} and not config.policy.lora and config.reference.placement == "device":
        yield "reference.placement", "host"
    tensor = mesh["tensor"] * 2
    while mesh["data"] * tensor <= start.topology.chips:
        yield "mesh.tensor", tensor
        tensor *= 2
    if learning.optimizer.name != "adafactor":
        yield "learning.optimizer.name", "adafactor"


def _smaller_micro_batches(config: RunConfig, mesh: dict[str, int]) -> Iterator[int]:
    """Yield halved micro-batch sizes while every chip has at least a row."""
    shards = mesh["data"] * mesh["fsdp"]
    size = config.learning.micro_batch_size or config.rows_per_update
    while size % 2 == 0 and (size // 2) % shards == 0:
        size //= 2
        yield size


def _changed(attempt: Attempt, setting: str, value: Any) -> Attempt | None:
    """Return the attempt with one more setting changed, None if the settings are then invalid."""
    plain = to_plain(attempt.config)
    room, *path = setting.split(".")
    if path == ["optimizer", "name"]:
        before = plain[room]["optimizer"]
        plain[room]["optimizer"] = {"name": value} | {key: before[key] for key in _SHARED_BY_OPTIMIZERS}
    else:
        plain[room][path[0]] = value
    if setting == "mesh.tensor":
        plain[room]["fsdp"] = None
    changes = (*(each for each in attempt.changes if not each.startswith(f"{setting}=")), f"{setting}={_yaml(value)}")
    return _valid(plain, attempt.topology, changes)


def _refitted(config: RunConfig, topology: Topology) -> Attempt | None:
    """Return the run on another slice: all chips in fsdp, micro-batches of at least a row a chip; None if invalid."""
    plain = to_plain(config)
    changes: tuple[str, ...] = ()
    plain["mesh"] |= {"fsdp": None, "devices": None}
    shards = topology.chips // plain["mesh"]["tensor"]
    micro = config.learning.micro_batch_size
    if micro and micro % shards:
        plain["learning"]["micro_batch_size"] = shards
        changes = (f"learning.micro_batch_size={shards}",)
    return _valid(plain, topology, changes)


def _valid(plain: dict[str, Any], topology: Topology, changes: tuple[str, ...]) -> Attempt | None:
    try:
        return Attempt(validate(plain), topology, changes)
    except ValidationError:
        return None


def _compiled(attempt: Attempt | None, failing: list[str], progress: Progress) -> Attempt | None:
    """Compile the stages that failed, then the others if those fit; None if the arrays alone do not fit."""
    if attempt is None:
        return None
    where = " ".join((*attempt.changes, attempt.topology.name))
    try:
        mesh = attempt.config.mesh.build(attempt.topology.devices())
    except SettingError:
        return None
    held = holdings(attempt.config, Programs(attempt.config, read_decoder(attempt.config, mesh), mesh).learner)
    if max(minimum_bytes(stage, held) for stage in failing) > attempt.topology.chip.hbm_bytes:
        return None

    def report(text: str) -> None:
        progress(f"{where}: {text}")

    plan = make_plan(attempt.config, attempt.topology, report, only=failing)
    if plan.fits:
        rest = make_plan(attempt.config, attempt.topology, report, only=set(STAGES) - set(failing))
        plan = replace(plan, programs=[*plan.programs, *rest.programs])
    return replace(attempt, plan=plan)


def _failing(attempt: Attempt) -> list[str]:
    return [each.compiled.stage for each in attempt.plan.too_large] if attempt.plan else list(STAGES)


def _excess(attempt: Attempt) -> int:
    limit = attempt.topology.chip.hbm_bytes
    return sum(each.needed - limit for each in attempt.plan.too_large) if attempt.plan else 0


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
