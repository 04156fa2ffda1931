"""The programs of a step, compiled for devices that are not there: those that the run itself would call."""

import functools as ft
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.stages import Lowered

from dar_jax import parallel
from dar_jax.batches import Batch, Inputs, Rewards, Rollouts
from dar_jax.config import RunConfig
from dar_jax.learner import Learner
from dar_jax.models import DecoderConfig
from dar_jax.planning.costs import Program, program_costs
from dar_jax.planning.topologies import GIB
from dar_jax.sampling import Sampler

Progress = Callable[[str], None]
Lower = Callable[[], dict[str, Lowered]]
_TOO_LARGE = re.compile(r"\(([\d.]+)([KMGT]?)\) exceeds available HBM")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """Bytes a program takes on one chip, as its compiler reports them.

    `aliased` outputs lie where their arguments lay; `peak` is the most that is in use at one time, which may be less
    than what is set aside (`total`).
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int
    peak: int

    @property
    def total(self) -> int:
        """What the program needs."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A program compiled; one too large for the chip has neither `bytes` nor `work`, and `needed` says how large."""

    name: str
    calls: int
    lower_s: float
    compile_s: float
    bytes: Bytes | None = None
    work: Program | None = None
    needed: int | None = None


class Programs:
    """The programs of a run's step."""

    def __init__(self, config: RunConfig, decoder: DecoderConfig, mesh: Mesh) -> None:
        self.config, self.mesh = config, mesh
        self.learner = Learner(config.learning, decoder, config.algorithm, mesh)
        ends = decoder.eos_token_id
        self.sampler = Sampler(
            config.sampling,
            decoder,
            mesh,
            eos_ids=frozenset({ends or 0} if isinstance(ends, int | None) else ends),
            pad_id=decoder.pad_token_id or 0,
            logprob_temperature=config.learning.logprob_temperature,
        )

    def compile(self, tell: Progress) -> list[Compiled]:
        """Compile them all; takes seconds for small models, minutes for large ones."""
        with jax.set_mesh(self.mesh):
            return [each for calls, lower in self._stages() for each in _compiled(calls, lower, tell)]

    def _stages(self) -> list[tuple[int, Lower]]:
        """List how often a step runs which programs, in its order."""
        config, learner = self.config, self.learner
        rollouts = self._rollouts()
        scored = len({"sampling", "reference"} & config.algorithm.needs)
        sample = ft.partial(self.sampler.lower, learner.abstract().decode, config.prompts_per_step, config.group_size)
        sampling: list[tuple[int, Lower]] = [
            (1, lambda: {"decode_params": learner.lower_decode_params()}),
            (1, sample),
        ]
        scoring: list[tuple[int, Lower]] = [
            (1, lambda: {"compute_params": learner.lower_compute_params()}),
            (scored, lambda: {"recall": learner.lower_recall(rollouts)}),
        ]
        updates = config.learning.updates_per_batch
        learning = (updates, lambda: {"regress": learner.lower_regress(self._part(rollouts))})
        return [*(sampling if config.online else []), *(scoring if scored else []), learning]

    def _rollouts(self) -> Rollouts:
        """Give the rollouts of a step at their longest."""
        config = self.config
        rows, length = config.rows_per_step, config.sampling.max_completion_length
        size = config.sampling.max_prompt_length + length

        shapes = Rollouts(
            inputs_B=Inputs(token_BT=_array((rows, size), jnp.int32), mask_BS=_array((rows, size), jnp.bool_)),
            mask_completion_BT=_array((rows, length), jnp.bool_),
            ended_B=_array((rows,), jnp.bool_),
            sampler_logprob_BT=_array((rows, length), jnp.float32) if config.online else None,
        )
        return parallel.abstract_rows(shapes, self.mesh)

    def _part(self, rollouts: Rollouts) -> Batch:
        """Give what one update learns from."""
        config = self.config
        needs, logprob = config.algorithm.needs, rollouts.mask_completion_BT

        def scored(name: str) -> Any:
            return _array(logprob.shape, jnp.float32) if name in needs else None

        shape = (config.prompts_per_step, config.group_size)
        rewards = Rewards(reward_PG=_array(shape, jnp.float32), valid_PG=_array(shape, jnp.bool_))

        def learnt(rollouts: Rollouts, rewards: Rewards, key: jax.Array) -> Batch:
            batch, _ = self.learner.weigh(rollouts, rewards if config.online else None)
            return self.learner.part(batch, 0, key)

        full = Rollouts(
            **{**vars(rollouts), "sampling_logprob_BT": scored("sampling"), "ref_logprob_BT": scored("reference")}
        )
        shapes = jax.eval_shape(learnt, full, rewards, jax.eval_shape(lambda: jax.random.key(0)))
        return parallel.abstract_rows(shapes, self.mesh)


def _compiled(calls: int, lower: Lower, tell: Progress) -> list[Compiled]:
    began = time.perf_counter()
    lowered = lower()
    lower_s = (time.perf_counter() - began) / len(lowered)
    return [_one(name, calls, each, lower_s, tell) for name, each in lowered.items()]


def _one(name: str, calls: int, lowered: Lowered, lower_s: float, tell: Progress) -> Compiled:
    tell(f"compiling {name}")
    began = time.perf_counter()
    found: dict[str, Any] = {}
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        found["needed"] = _needed(error)
    else:
        found["bytes"] = _bytes(compiled.memory_analysis())
    compile_s = time.perf_counter() - began
    if "bytes" in found:
        found["work"] = program_costs(compiled.as_text() or "")
    return Compiled(name=name, calls=calls, lower_s=lower_s, compile_s=compile_s, **found)


def _bytes(found: Any) -> Bytes:
    total = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    total += found.temp_size_in_bytes
    return Bytes(
        arguments=found.argument_size_in_bytes,
        outputs=found.output_size_in_bytes,
        aliased=found.alias_size_in_bytes,
        temporaries=found.temp_size_in_bytes,
        code=found.generated_code_size_in_bytes,
        peak=found.peak_memory_in_bytes or total,
    )


def _needed(error: Exception) -> int:
    """Read how much a program wanted off the compiler's refusal; any other error is not about size and goes on."""
    found = _TOO_LARGE.search(str(error))
    if found is None:
        raise error
    return int(float(found[1]) * _UNITS[found[2]])


def _array(shape: tuple[int, ...], dtype: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)
