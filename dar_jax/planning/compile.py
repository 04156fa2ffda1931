"""Compile the programs of a training step for devices that need not exist; a run calls the same programs."""

import contextlib
import dataclasses
import functools as ft
import re
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh
from jax.stages import Lowered

from dar_jax import parallel
from dar_jax.batches import Batch, Inputs, Rewards, Rollouts
from dar_jax.config.run_config import RunConfig
from dar_jax.learner import Learner
from dar_jax.models import DecoderConfig, Params
from dar_jax.planning import lowering
from dar_jax.planning.hlo_costs import ProgramCosts, program_costs
from dar_jax.planning.topologies import GIB
from dar_jax.run.session import decode_places
from dar_jax.sampling import Sampler
from dar_jax.sampling.formats import abstract_cache, lower_sample

Progress = Callable[[str], None]
STAGES = ("decode_params", "sample", "compute_params", "recall", "regress")
_TOO_LARGE = re.compile(r"\(([\d.]+)([KMGT]?)\) exceeds available HBM")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """Bytes of a program on one chip, as the compiler reports them.

    `aliased` outputs reuse the memory of donated arguments. `peak` is the most in use at one time, which may be less
    than the `total` allocated.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int
    peak: int

    @property
    def total(self) -> int:
        """Bytes that are allocated for the program."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A compiled program, which a step calls `calls` times.

    A program too large for the chip has `needed` (bytes) instead of `bytes` and `work`. `work` is also None if jaxlib
    cannot read the compiled text. Seconds are wall-clock; `compile_cpu_s` is the CPU time of all threads.
    """

    name: str
    stage: str
    calls: int
    lower_s: float
    compile_s: float
    compile_cpu_s: float
    bytes: Bytes | None = None
    work: ProgramCosts | None = None
    needed: int | None = None


@dataclass(frozen=True)
class Stage:
    """Programs by name, lowered on demand, that a step calls `calls` times."""

    name: str
    calls: int
    lower: Callable[[], dict[str, Lowered]]


class Programs:
    """The programs of a run's training step."""

    def __init__(self, config: RunConfig, decoder: DecoderConfig, mesh: Mesh) -> None:
        self.config, self.mesh = config, mesh
        ends = decoder.eos_token_id
        self.sampler = Sampler(
            config.sampling,
            decoder,
            parallel.decode_mesh(mesh, decoder.kv_heads, config.mesh.decode),
            eos_ids=frozenset({ends or 0} if isinstance(ends, int | None) else ends),
            pad_id=decoder.pad_token_id or 0,
            logprob_temperature=config.learning.logprob_temperature,
        )
        # Shapes and shardings suffice here: layouts do not change the bytes that a run holds.
        self.learner = self._learner(decoder, self.sampler.shardings)

    def compile(self, progress: Progress, only: Collection[str] = STAGES) -> list[Compiled]:
        """Compile the programs of the stages in `only`; takes seconds for small models, minutes for large ones."""
        with jax.set_mesh(self.mesh), _uncached():
            if {"decode_params", "sample"} & set(only):
                self.learner = self._with_decode_formats()
            return [each for stage in self._stages() if stage.name in only for each in _compiled(stage, progress)]

    def cache(self) -> Any:
        """Return shapes and shardings of the KV cache; None if nothing is sampled."""
        config = self.config
        dtype = jnp.dtype(config.learning.compute_dtype)
        return (
            abstract_cache(self.sampler, config.prompts_per_chunk * config.group_size, dtype) if config.online else None
        )

    def _learner(self, decoder: DecoderConfig, decode_shardings: Params) -> Learner:
        return Learner(self.config.learning, decoder, self.config.algorithm, self.mesh, decode_shardings)

    def _with_decode_formats(self) -> Learner:
        """Return the learner with the decode formats, or the former one if decoding does not fit."""
        try:
            return self._learner(self.sampler.config, decode_places(self.config, self.sampler))
        except jax.errors.JaxRuntimeError as error:
            _needed_bytes(error)
            return self.learner

    def _stages(self) -> list[Stage]:
        config, learner = self.config, self.learner
        rollouts = self._rollouts()
        scored = len({"sampling", "reference"} & config.algorithm.needs)
        copies = "sampling" in config.algorithm.needs
        sample = ft.partial(
            lower_sample, self.sampler, lowering.decode_params(learner), config.prompts_per_chunk, config.group_size
        )
        stages = [
            Stage("decode_params", config.online, lambda: {"decode_params": lowering.lower_decode_params(learner)}),
            Stage("sample", config.sampling.chunks if config.online else 0, sample),
            Stage("compute_params", copies, lambda: {"compute_params": lowering.lower_compute_params(learner)}),
            Stage("recall", scored, lambda: {"recall": lowering.lower_recall(learner, rollouts)}),
            Stage(
                "regress",
                config.learning.updates_per_batch,
                lambda: {"regress": lowering.lower_regress(learner, self._part(rollouts))},
            ),
        ]
        return [stage for stage in stages if stage.calls]

    def _rollouts(self) -> Rollouts:
        """Return abstract rollouts of a step, of maximum length."""
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
        """Return the abstract batch of one update, with the shardings that the compiler chooses."""
        config, shape = self.config, rollouts.mask_completion_BT.shape
        logprob = _array(shape, jnp.float32)
        names = {"sampling": "sampling_logprob_BT", "reference": "ref_logprob_BT"}
        scored = {names[need]: logprob for need in names.keys() & config.algorithm.needs}
        rollouts = dataclasses.replace(rollouts, **parallel.abstract_rows(scored, self.mesh))
        batch, _ = _outputs(lowering.lower_weigh(self.learner, rollouts, self._rewards() if config.online else None))
        part: Batch = batch if config.learning.minibatches == 1 else _outputs(lowering.lower_part(self.learner, batch))
        return part

    def _rewards(self) -> Rewards:
        shape = (self.config.prompts_per_step, self.config.group_size)
        shapes = Rewards(reward_PG=_array(shape, jnp.float32), valid_PG=_array(shape, jnp.bool_))
        rewards: Rewards = parallel.abstract_rows(shapes, self.mesh)
        return rewards


@contextlib.contextmanager
def _uncached() -> Iterator[None]:
    """Disable the persistent compilation cache: programs cannot be read back from it without the chip."""
    before = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def _outputs(lowered: Lowered) -> Any:
    """Return a program's outputs as shapes with shardings."""
    return parallel.placed(lowered.out_info, lowered.compile().output_shardings)


def _compiled(stage: Stage, progress: Progress) -> list[Compiled]:
    began = time.perf_counter()
    lowered = stage.lower()
    lower_s = (time.perf_counter() - began) / len(lowered)
    return [_one(stage, name, each, lower_s, progress) for name, each in lowered.items()]


def _one(stage: Stage, name: str, lowered: Lowered, lower_s: float, progress: Progress) -> Compiled:
    progress(f"compiling {name}")
    began, began_cpu = time.perf_counter(), time.process_time()
    found: dict[str, Any] = {}
    try:
        compiled = lowered.compile()
        found["bytes"] = _bytes(compiled.memory_analysis())
    except jax.errors.JaxRuntimeError as error:
        found["needed"] = _needed_bytes(error)
    found |= {"compile_s": time.perf_counter() - began, "compile_cpu_s": time.process_time() - began_cpu}
    if "bytes" in found:
        found["work"] = count_work(compiled)
    return Compiled(name=name, stage=stage.name, calls=int(stage.calls), lower_s=lower_s, **found)


def count_work(compiled: Any) -> ProgramCosts | None:
    """Return the costs of a compiled program, or None if jaxlib cannot read its text."""
    try:
        text = compiled.as_text()
    except jax.errors.JaxRuntimeError:
        return None  # a libtpu much newer than jaxlib may write instructions that jaxlib does not know
    return program_costs(text)


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


def _needed_bytes(error: Exception) -> int:
    """Return the bytes that a program needs, from the compiler's out-of-memory error; re-raise any other error."""
    found = _TOO_LARGE.search(str(error))
    if found is None:
        raise error
    return int(float(found[1]) * _UNITS[found[2]])


def _array(shape: tuple[int, ...], dtype: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)
