"""What to change where a run does not fit, each way out compiled before it is named."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from dar_jax.config.run_config import RunConfig, to_plain, validate
from dar_jax.errors import SettingError
from dar_jax.planning.compile import STAGES, Programs, Progress
from dar_jax.planning.plan import Plan, make_plan
from dar_jax.planning.residents import holdings, least
from dar_jax.planning.topologies import Topology
from dar_jax.run.build import read_decoder

_SLICES = 4  # larger ones to try; they double in size
_OF_EVERY_OPTIMIZER = ("learning_rate", "warmup_updates")


@dataclass(frozen=True, kw_only=True)
class Way:
    """A change of settings, of the slice, or both, and the most that a program then needs of a chip."""

    settings: tuple[str, ...]
    topology: str
    program: str
    needed: int
    fits: bool


@dataclass(frozen=True)
class Attempt:
    """A run as it might be: settings already changed (`said`), on a slice, and what of it is known."""

    config: RunConfig
    topology: Topology
    said: tuple[str, ...] = ()
    plan: Plan | None = None

    def way(self) -> Way:
        """Return the result of a change."""
        assert self.plan is not None
        largest = self.plan.largest
        return Way(
            settings=self.said,
            topology=self.topology.name,
            program=largest.compiled.name,
            needed=largest.needed,
            fits=self.plan.fits,
        )


def ways_out(config: RunConfig, plan: Plan, tell: Progress) -> list[Way]:
    """Find settings with which the run fits its slice, and the smallest larger slice on which it fits as it is.

    Settings are changed one after the other and kept where they help; a plan that fits is compiled whole. Where the
    settings do not suffice, the last of the ways says how far they go.
    """
    found = [_by_settings(Attempt(config, plan.topology, plan=plan), tell), _by_slice(config, plan, tell)]
    return [attempt.way() for attempt in found if attempt is not None]


def _by_settings(start: Attempt, tell: Progress) -> Attempt | None:
    best = start
    for setting, value in _settings(start):
        tried = _tried(_changed(best, setting, value), _failing(best), tell)
        if tried and _excess(tried) < _excess(best):
            best = tried
        if best.plan and best.plan.fits:
            alone = _tried(_changed(start, setting, value), _failing(start), tell) if len(best.said) > 1 else None
            return alone if alone and alone.plan and alone.plan.fits else best
    return best if best.said else None


def _by_slice(config: RunConfig, plan: Plan, tell: Progress) -> Attempt | None:
    for topology in plan.topology.larger()[:_SLICES]:
        tried = _tried(_refitted(config, topology), _failing(Attempt(config, topology, plan=plan)), tell)
        if tried and tried.plan and tried.plan.fits:
            return tried
    return None


def _settings(start: Attempt) -> Iterator[tuple[str, Any]]:
    """List what leaves the numbers of the run as they are, the cheapest first, then what does not."""
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
    """Halve the micro-batch as long as every chip still has a row of it."""
    shards = mesh["data"] * mesh["fsdp"]
    size = config.learning.micro_batch_size or config.rows_per_update
    while size % 2 == 0 and (size // 2) % shards == 0:
        size //= 2
        yield size


def _changed(attempt: Attempt, setting: str, value: Any) -> Attempt | None:
    """Change a setting; None where the others forbid it."""
    plain = to_plain(attempt.config)
    room, *path = setting.split(".")
    if path == ["optimizer", "name"]:
        before = plain[room]["optimizer"]
        plain[room]["optimizer"] = {"name": value} | {key: before[key] for key in _OF_EVERY_OPTIMIZER}
    else:
        plain[room][path[0]] = value
    if setting == "mesh.tensor":
        plain[room]["fsdp"] = None
    said = (*(each for each in attempt.said if not each.startswith(f"{setting}=")), f"{setting}={_yaml(value)}")
    return _valid(plain, attempt.topology, said)


def _refitted(config: RunConfig, topology: Topology) -> Attempt | None:
    """Return the run on another slice: all chips in fsdp, micro-batches of one row a chip."""
    plain = to_plain(config)
    said: tuple[str, ...] = ()
    plain["mesh"] |= {"fsdp": None, "devices": None}
    shards = topology.chips // plain["mesh"]["tensor"]
    micro = config.learning.micro_batch_size
    if micro and micro % shards:
        plain["learning"]["micro_batch_size"] = shards
        said = (f"learning.micro_batch_size={shards}",)
    return _valid(plain, topology, said)


def _valid(plain: dict[str, Any], topology: Topology, said: tuple[str, ...]) -> Attempt | None:
    try:
        return Attempt(validate(plain), topology, said)
    except ValidationError:
        return None


def _tried(attempt: Attempt | None, failing: list[str], tell: Progress) -> Attempt | None:
    """Compile what failed before, and if that fits now, all; None where it cannot fit, whatever the compiler does."""
    if attempt is None:
        return None
    where = " ".join((*attempt.said, attempt.topology.name))
    try:
        mesh = attempt.config.mesh.build(attempt.topology.devices())
    except SettingError:
        return None
    held = holdings(attempt.config, Programs(attempt.config, read_decoder(attempt.config, mesh), mesh).learner)
    if max(least(stage, held) for stage in failing) > attempt.topology.chip.hbm_bytes:
        return None

    def tell_where(text: str) -> None:
        tell(f"{where}: {text}")

    plan = make_plan(attempt.config, attempt.topology, tell_where, only=failing)
    if plan.fits:
        rest = make_plan(attempt.config, attempt.topology, tell_where, only=set(STAGES) - set(failing))
        plan = replace(plan, programs=[*plan.programs, *rest.programs])
    return replace(attempt, plan=plan)


def _failing(attempt: Attempt) -> list[str]:
    return [each.compiled.stage for each in attempt.plan.too_large] if attempt.plan else list(STAGES)


def _excess(attempt: Attempt) -> int:
    limit = attempt.topology.chip.hbm_bytes
    return sum(each.needed - limit for each in attempt.plan.too_large) if attempt.plan else 0


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
