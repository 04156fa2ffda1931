"""The plan of a run: what each program of a step takes on a chip, and what the step takes in all."""

import math
from collections.abc import Collection
from dataclasses import dataclass

import jax

from dar_jax import models
from dar_jax.config.run_config import RunConfig
from dar_jax.judging.money.forecast import Forecast
from dar_jax.models import DecoderConfig
from dar_jax.planning.compile import STAGES, Compiled, Programs, Progress
from dar_jax.planning.costs import Costs
from dar_jax.planning.judge_demand import Assumptions, judge_costs
from dar_jax.planning.residents import holdings, nbytes, resident, resuming
from dar_jax.planning.topologies import Chip, Topology
from dar_jax.run.build import read_decoder, uneven_rows


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """The roofline: how long a chip needs at least for a program's products, its HBM traffic, its collectives, were
    each at the peak of its own, and all at the same time. `bound` is the longest of the three.
    """

    compute: float
    memory: float
    collectives: float

    @property
    def bound(self) -> float:
        """The least time a run of the program can take."""
        return max(self.compute, self.memory, self.collectives)


@dataclass(frozen=True, kw_only=True)
class ProgramPlan:
    """A program of the step on one chip; `calls` is how often a step runs it, all else is of one run.

    `ideal_flops` is 6ND for regress and 2ND for what only reads, N all parameters, D the tokens read, padding included.
    """

    compiled: Compiled
    resident: dict[str, int]
    ideal_flops: float
    seconds: Seconds | None

    @property
    def needed(self) -> int:
        """Bytes of the chip with this program running."""
        own = self.compiled.bytes.total if self.compiled.bytes else self.compiled.needed or 0
        return own + sum(self.resident.values())

    @property
    def flops_ratio(self) -> float | None:
        """FLOPs made of those that the model asks for; None where it asks for none or nothing was compiled."""
        work = self.compiled.work
        return work.total.flops / self.ideal_flops if work and self.ideal_flops else None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run on a slice. `holdings` are bytes a chip of what outlives a program, `cache_bytes` those of the keys and
    values of all completions, which sampling has among its temporaries.
    """

    config: RunConfig
    topology: Topology
    mesh: dict[str, int]
    parameters: int
    assumptions: Assumptions
    holdings: dict[str, int]
    cache_bytes: int
    programs: list[ProgramPlan]
    judge: Forecast | None

    @property
    def largest(self) -> ProgramPlan:
        """The program that needs most."""
        return max(self.programs, key=lambda each: each.needed)

    @property
    def too_large(self) -> list[ProgramPlan]:
        """The programs that do not fit beside what is resident."""
        return [each for each in self.programs if each.needed > self.topology.chip.hbm_bytes]

    @property
    def resume_bytes(self) -> int:
        """Bytes of a chip that a resume takes until its first step: never more than the steps themselves."""
        return resuming(self.holdings)

    @property
    def fits(self) -> bool:
        """Whether every program does."""
        return not self.too_large

    @property
    def unread(self) -> list[str]:
        """Programs that were compiled, but whose work could not be counted."""
        return [each.compiled.name for each in self.programs if each.compiled.bytes and not each.compiled.work]

    @property
    def lacking(self) -> list[str]:
        """Programs whose FLOPs lack those of kernels."""
        work = {each.compiled.name: each.compiled.work for each in self.programs}
        return [name for name, found in work.items() if found and found.total.kernels]

    @property
    def warning(self) -> str | None:
        """Return which rows do not divide among the chips, so that these compute the same; None where all do."""
        return "; ".join(uneven_rows(self.config, self.mesh)) or None

    @property
    def device_s(self) -> float | None:
        """Seconds of a step on the device at the assumed share of the roofline; None where a program is too large."""
        if any(each.seconds is None for each in self.programs):
            return None
        bound = sum(each.compiled.calls * each.seconds.bound for each in self.programs if each.seconds)
        return bound / self.assumptions.roofline_share

    @property
    def step_s(self) -> float | None:
        """Seconds of a step: the judge answers while later chunks are sampled and while recall runs; the rest waits."""
        if self.device_s is None:
            return None
        judge_s, chunks = self.judge.seconds if self.judge else 0.0, self.config.sampling.chunks
        recall_s, sample_s = self._seconds_of("compute_params", "recall"), self._seconds_of("prefill", "decode")
        beside_s = sample_s * (chunks - 1) / chunks
        # The last chunk's completions are there when all are.
        left_s = max(judge_s - beside_s, judge_s / chunks)
        return self.device_s + max(0.0, left_s - recall_s)

    def _seconds_of(self, *names: str) -> float:
        """Sum up what programs take in a step, at the assumed share of the roofline."""
        return sum(
            each.compiled.calls * each.seconds.bound / self.assumptions.roofline_share
            for each in self.programs
            if each.seconds and each.compiled.name in names
        )


def make_plan(
    config: RunConfig,
    topology: Topology,
    tell: Progress,
    assumptions: Assumptions | None = None,
    only: Collection[str] = STAGES,
) -> Plan:
    """Compile the programs of a run for a slice. Raises SettingError where mesh, model or compiler cannot be used.

    Of the policy only its config.json is read, of the data nothing. `only` some stages may be asked for.
    """
    mesh = config.mesh.build(topology.devices())
    decoder = read_decoder(config, mesh)
    assumptions = assumptions or Assumptions()
    programs = Programs(config, decoder, mesh)
    held = holdings(config, programs.learner)
    compiled = programs.compile(tell, only)
    return Plan(
        config=config,
        topology=topology,
        mesh=dict(mesh.shape),
        parameters=count(decoder),
        assumptions=assumptions,
        holdings=held,
        cache_bytes=nbytes(programs.cache()),
        programs=[_program(each, config, decoder, mesh.size, held, topology.chip) for each in compiled],
        judge=judge_costs(config, assumptions),
    )


def count(decoder: DecoderConfig) -> int:
    """Count the parameters, embeddings included."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(models.abstract(decoder)))


def _program(
    compiled: Compiled, config: RunConfig, decoder: DecoderConfig, chips: int, held: dict[str, int], chip: Chip
) -> ProgramPlan:
    return ProgramPlan(
        compiled=compiled,
        resident=resident(compiled.stage, held),
        ideal_flops=_per_token(compiled.name) * count(decoder) * _tokens(compiled.name, config) / chips,
        seconds=_seconds(compiled.work.total, chip) if compiled.work else None,
    )


def _per_token(name: str) -> int:
    return {"regress": 6, "decode_params": 0, "compute_params": 0}.get(name, 2)


def _tokens(name: str, config: RunConfig) -> int:
    """Count what a program reads: each row's prompt and completion; sampling, each prompt once, then completions."""
    prompt, completion = config.sampling.max_prompt_length, config.sampling.max_completion_length
    if name == "regress":
        return config.rows_per_update * (prompt + completion)
    if name == "recall":
        return config.rows_per_step * (prompt + completion)
    return config.prompts_per_chunk * (prompt if name == "prefill" else config.group_size * completion)


def _seconds(work: Costs, chip: Chip) -> Seconds:
    return Seconds(
        compute=work.flops / chip.peak_flops,
        memory=work.hbm_bytes / chip.hbm_bytes_per_s,
        collectives=sum(work.collective_bytes.values()) / chip.axis_bytes_per_s,
    )
