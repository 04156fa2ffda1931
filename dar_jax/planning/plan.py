"""The plan of a run: memory, FLOPs and time of each program of a step on a chip, and of the step."""

import math
from collections.abc import Collection
from dataclasses import dataclass

import jax

from dar_jax import models
from dar_jax.config.run_config import RunConfig
from dar_jax.judging.money.forecast import Forecast
from dar_jax.models import DecoderConfig
from dar_jax.planning.compile import STAGES, Compiled, Programs, Progress
from dar_jax.planning.hlo_costs import Costs
from dar_jax.planning.judge_demand import Assumptions, judge_costs
from dar_jax.planning.residents import holdings, nbytes, resident, resume_bytes
from dar_jax.planning.topologies import Chip, Topology
from dar_jax.run.build import read_decoder, uneven_rows


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """The roofline of a program on a chip: seconds of its matmuls, HBM traffic and collectives, each at peak rate."""

    compute: float
    memory: float
    collectives: float

    @property
    def bound(self) -> float:
        """The longest of the three, as if all overlapped: a lower bound of the program's time."""
        return max(self.compute, self.memory, self.collectives)


@dataclass(frozen=True, kw_only=True)
class ProgramPlan:
    """A program of the step on one chip; figures are of one call.

    `ideal_flops` is 6ND for regress and 2ND for forward passes, with N parameters and D tokens, padding included.
    """

    compiled: Compiled
    resident: dict[str, int]
    ideal_flops: float
    seconds: Seconds | None

    @property
    def needed(self) -> int:
        """Bytes of the chip in use while this program runs."""
        own = self.compiled.bytes.total if self.compiled.bytes else self.compiled.needed or 0
        return own + sum(self.resident.values())

    @property
    def flops_ratio(self) -> float | None:
        """Compiled FLOPs over ideal FLOPs; None without ideal FLOPs or if the costs are unknown."""
        work = self.compiled.work
        return work.total.flops / self.ideal_flops if work and self.ideal_flops else None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run on a slice.

    `holdings` are the bytes per chip of arrays that outlive a program; `cache_bytes` those of the KV cache, which is
    part of the temporaries and arguments of sampling.
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
        """The program that needs the most memory."""
        return max(self.programs, key=lambda each: each.needed)

    @property
    def too_large(self) -> list[ProgramPlan]:
        """The programs that do not fit into a chip's memory together with the resident arrays."""
        return [each for each in self.programs if each.needed > self.topology.chip.hbm_bytes]

    @property
    def resume_bytes(self) -> int:
        """Peak bytes per chip of a resume before its first step; never more than those of the steps."""
        return resume_bytes(self.holdings)

    @property
    def fits(self) -> bool:
        """Whether every program fits."""
        return not self.too_large

    @property
    def unreadable(self) -> list[str]:
        """Names of compiled programs whose costs are unknown."""
        return [each.compiled.name for each in self.programs if each.compiled.bytes and not each.compiled.work]

    @property
    def without_kernel_flops(self) -> list[str]:
        """Names of programs whose FLOPs exclude those of custom kernels."""
        work = {each.compiled.name: each.compiled.work for each in self.programs}
        return [name for name, found in work.items() if found and found.total.kernels]

    @property
    def warning(self) -> str | None:
        """Which rows do not divide evenly among the chips, so that these repeat work; None if all do."""
        return "; ".join(uneven_rows(self.config, self.mesh)) or None

    @property
    def device_s(self) -> float | None:
        """Device seconds of a step at the assumed share of the roofline; None if a program does not fit."""
        if any(each.seconds is None for each in self.programs):
            return None
        bound = sum(each.compiled.calls * each.seconds.bound for each in self.programs if each.seconds)
        return bound / self.assumptions.roofline_share

    @property
    def step_s(self) -> float | None:
        """Seconds of a step; the judge overlaps with the sampling of later chunks and with recall."""
        if self.device_s is None:
            return None
        judge_s, chunks = self.judge.seconds if self.judge else 0.0, self.config.sampling.chunks
        recall_s, sample_s = self._seconds_of("compute_params", "recall"), self._seconds_of("prefill", "decode")
        overlapped_s = sample_s * (chunks - 1) / chunks
        # The judge cannot begin with the last chunk before sampling ends.
        left_s = max(judge_s - overlapped_s, judge_s / chunks)
        return self.device_s + max(0.0, left_s - recall_s)

    def _seconds_of(self, *names: str) -> float:
        """Return the seconds of these programs in a step, at the assumed share of the roofline."""
        return sum(
            each.compiled.calls * each.seconds.bound / self.assumptions.roofline_share
            for each in self.programs
            if each.seconds and each.compiled.name in names
        )


def make_plan(
    config: RunConfig,
    topology: Topology,
    progress: Progress,
    assumptions: Assumptions | None = None,
    only: Collection[str] = STAGES,
) -> Plan:
    """Compile the programs of a run for a slice, those of the stages in `only`, and return the plan.

    Of the policy only config.json is read, and no data. Raises SettingError if the mesh does not fit the slice, the
    model is not supported or the TPU compiler is missing.
    """
    mesh = config.mesh.build(topology.devices())
    decoder = read_decoder(config, mesh)
    assumptions = assumptions or Assumptions()
    programs = Programs(config, decoder, mesh)
    held = holdings(config, programs.learner)
    compiled = programs.compile(progress, only)
    return Plan(
        config=config,
        topology=topology,
        mesh=dict(mesh.shape),
        parameters=count_parameters(decoder),
        assumptions=assumptions,
        holdings=held,
        cache_bytes=nbytes(programs.cache()),
        programs=[_program(each, config, decoder, mesh.size, held, topology.chip) for each in compiled],
        judge=judge_costs(config, assumptions),
    )


def count_parameters(decoder: DecoderConfig) -> int:
    """Return the number of parameters, embeddings included."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(models.abstract(decoder)))


def _program(
    compiled: Compiled, config: RunConfig, decoder: DecoderConfig, chips: int, held: dict[str, int], chip: Chip
) -> ProgramPlan:
    return ProgramPlan(
        compiled=compiled,
        resident=resident(compiled.stage, held),
        ideal_flops=_flops_per_token(compiled.name)
        * count_parameters(decoder)
        * _token_count(compiled.name, config)
        / chips,
        seconds=_seconds(compiled.work.total, chip) if compiled.work else None,
    )


def _flops_per_token(name: str) -> int:
    return {"regress": 6, "decode_params": 0, "compute_params": 0}.get(name, 2)


def _token_count(name: str, config: RunConfig) -> int:
    """Return the tokens that one call of a program processes, padding included."""
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
