"""The settings of a run: every room's own, composed. `read_config` makes one from a file and overrides."""

import dataclasses
import re
from typing import Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from dar_jax.algorithms import ALGORITHMS, DAR
from dar_jax.checkpoints import Checkpointing
from dar_jax.data import DATA, OnBad
from dar_jax.evaluation import WinRate
from dar_jax.judging import JUDGES
from dar_jax.judging.money.forecast import Forecast, forecast
from dar_jax.learner import Learning, Reference
from dar_jax.models import Lora
from dar_jax.parallel import MeshShape
from dar_jax.sampling import Sampling
from dar_jax.settings.fields import STRICT, Count, CountOrZero, File, Place, one_of
from dar_jax.settings.hints import components, item_of, settings_of
from dar_jax.terminal.console import Display
from dar_jax.tokens import TokenizerSettings

# A resume may change these; any other change would be another run under the same name. Of paths the content decides:
# `run.origin` compares weights, tokens and ends.
FREE_ON_RESUME = (
    "steps",
    "max_tied_steps",
    "policy.path",
    "data.path",
    "tokenizer.path",
    "display",
    "ledger",
    "checkpoints",
    "evaluation",
    "mesh",
    "reference",
    # How the same numbers are computed, but for rounding.
    "sampling.chunks",
    "learning.micro_batch_size",
    "learning.remat",
    "learning.logprob_chunk",
    "learning.attention",
    "judge.base_url",
    "judge.api_key_env",
    "judge.api_key_file",
    "judge.concurrency",
    "judge.requests_per_minute",
    "judge.tokens_per_minute",
    "judge.attempts",
    "judge.attempt_timeout_s",
    "judge.deadline_s",
    "judge.batch_deadline_s",
    "judge.max_failure_share",
    "judge.prices",
    "judge.budget_usd",
    "judge.budget_annotations",
    "judge.endpoint",
    # What it said is in judge.rubric.
    "judge.rubric_file",
    "judge.canary_every",
    "judge.canary_margin",
)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PolicySettings:
    """The model to align: a folder or hub id of a Hugging Face checkpoint. `weights: random` takes its
    config.json alone and draws the weights by `seed`. With `lora` only adapters are trained, and the reference is the
    model without them.
    """

    path: Place
    weights: Literal["pretrained", "random"] = "pretrained"
    lora: Lora | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunConfig:
    """A run. One step samples `group_size` completions of each of `prompts_per_step` prompts, has them
    judged, and learns from them.

    `seed` addresses all randomness: data order, samples, minibatches. `on_bad_prompt` says what becomes of
    an empty or overlong prompt. After `max_tied_steps` steps in a row whose rewards left nothing to learn (null: after
    none) the run saves and ends. `judge` may be null for an algorithm that learns from recorded completions. `ledger`
    is a folder for the judges' answers, null the run's own: of runs on one machine that share it none pays for what
    another has finished buying, and what it held before counts in the budgets of each and in its judge/spent_*.
    """

    policy: PolicySettings
    data: one_of(DATA, "files")  # type: ignore[valid-type]
    judge: one_of(JUDGES) | None = None  # type: ignore[valid-type]
    algorithm: one_of(ALGORITHMS, "dar") = Field(default_factory=DAR)  # type: ignore[valid-type]
    steps: Count = 100
    prompts_per_step: Count = 128
    group_size: Count = 4
    seed: CountOrZero = 0
    max_tied_steps: Count | None = 5
    on_bad_prompt: OnBad = "error"
    tokenizer: TokenizerSettings = Field(default_factory=TokenizerSettings)
    sampling: Sampling = Field(default_factory=Sampling)
    learning: Learning = Field(default_factory=Learning)
    reference: Reference = Field(default_factory=Reference)
    mesh: MeshShape = Field(default_factory=MeshShape)
    checkpoints: Checkpointing = Field(default_factory=Checkpointing)
    evaluation: WinRate | None = None
    ledger: File | None = None
    display: Display = Field(default_factory=Display)

    @property
    def rows_per_step(self) -> int:
        """Completions of a step, sampled or recorded."""
        return self.prompts_per_step * (self.group_size if self.online else self.algorithm.rows_per_example)

    @property
    def rows_per_update(self) -> int:
        """Completions an update learns from."""
        examples = self.algorithm.examples(self.prompts_per_step, self.group_size)
        return examples // self.learning.minibatches * self.algorithm.rows_per_example

    @property
    def prompts_per_chunk(self) -> int:
        """Prompts sampled at a time."""
        return self.prompts_per_step // self.sampling.chunks

    @property
    def online(self) -> bool:
        """Whether the policy samples what it learns from."""
        return "rewards" in self.algorithm.needs

    def forecast(self, judged: int, **assumed: float) -> Forecast | None:
        """Estimate what judging `judged` completions takes, see `judging.forecast`; None where no judge is asked."""
        if self.judge is None or not self.online:
            return None
        return forecast(
            self.judge,
            judged,
            prompt_tokens=self.sampling.max_prompt_length,
            completion_tokens=self.sampling.max_completion_length,
            group_size=self.group_size,
            **assumed,
        )

    @model_validator(mode="after")
    def _rooms_agree(self) -> Self:
        if getattr(self.data, "pairs", False) and "pairs" not in self.algorithm.needs:
            ignored = f"algorithm {self.algorithm.name} would not learn from the recorded pairs"
            raise _at("data.pairs", f"{ignored}; leave it out, or set algorithm.name=offline_dpo")
        if self.online and self.judge is None:
            raise _at("judge", f"algorithm {self.algorithm.name} learns from rewards; state who gives them")
        if self.evaluation and self.evaluation.judge is None and self.judge is None:
            raise _at("evaluation.judge", "the run has no judge to evaluate by; state one, or leave evaluation out")
        if reason := self.algorithm.reject_group_size(self.group_size):
            raise _at("group_size", reason)
        if self.online and self.judge and self.judge.labels == "preference" and self.group_size < 2:
            raise _at("group_size", "judge.labels=preference compares a prompt's completions; sample 2 or more")
        if self.policy.lora and self.policy.weights == "random":
            raise _at("policy.lora", "adapters need a pretrained model below them; leave weights: random out")
        if self.policy.lora and self.reference.placement == "host":
            raise _at("reference.placement", "with policy.lora the reference is the frozen model itself; leave it out")
        if self.online and self.prompts_per_step % self.sampling.chunks:
            sizes = f"{self.prompts_per_step} prompts a step cannot be cut into {self.sampling.chunks} equal chunks"
            raise _at("sampling.chunks", f"{sizes}; choose a divisor of {self.prompts_per_step}")
        examples, together = self.algorithm.examples(self.prompts_per_step, self.group_size), self._together
        if examples % self.learning.minibatches:
            sizes = f"{examples} {together} a step cannot be cut into {self.learning.minibatches} equal minibatches"
            raise _at("learning.updates_per_batch", f"{sizes}; choose a divisor of {examples}")
        micro, each = self.learning.micro_batch_size, self.rows_per_update
        if micro and (each % micro or micro % self.algorithm.rows_per_example):
            sizes = f"an update's {each} completions are no multiple of {micro}"
            whole = "" if together == "completions" else " that leaves pairs whole"
            raise _at("learning.micro_batch_size", f"{sizes}; choose a divisor of {each}{whole}")
        return self

    @property
    def _together(self) -> str:
        return "completions" if self.algorithm.rows_per_example == 1 else "pairs"


def _at(key: str, reason: str) -> PydanticCustomError:
    return PydanticCustomError("rooms_disagree", "{key}: {reason}", {"key": key, "reason": reason})


_ADAPTER: TypeAdapter[RunConfig] = TypeAdapter(RunConfig)


def validate(settings: dict[str, Any]) -> RunConfig:
    """Build the config from plain values; pydantic's ValidationError where they do not fit."""
    return _ADAPTER.validate_python(settings)


def to_plain(config: RunConfig) -> dict[str, Any]:
    """Return the resolved settings as plain values; no secret is among them."""
    return dict(_ADAPTER.dump_python(config, mode="json"))


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """List the settings that differ and that a resume may not change, as `key: old -> new`."""
    before, after = fixed(old), fixed(new)
    keys = [key for key in sorted(before | after) if before.get(key) != after.get(key)]
    return [f"{key}: {before.get(key)!r} -> {after.get(key)!r}" for key in keys]


def fixed(config: RunConfig) -> dict[str, Any]:
    """Return the settings that a resume may not change, by key, as plain values."""
    return {key: value for key, value in flat(config).items() if not is_free(key)}


def is_free(key: str) -> bool:
    """Return whether a resume may change a setting; what is free of a judge is free of each judge of a panel."""
    named = re.sub(r"^judge\.judges\.\d+\.", "judge.", key)
    return any(f"{named}.".startswith(f"{free}.") for free in FREE_ON_RESUME)


def flat(config: RunConfig) -> dict[str, Any]:
    """Return every setting by its key, as plain values."""
    return _flat(to_plain(config))


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        return {path: value}
    parts = (_flat(item, f"{path}.{key}" if path else str(key)) for key, item in value.items())
    return {key: item for part in parts for key, item in part.items()}


def field_names(path: tuple[str, ...], settings: Any) -> list[str]:
    """List the settings that exist at a path, following the names chosen in `settings`."""
    return sorted({field.name for kind in kinds_at(path, settings) for field in dataclasses.fields(kind)})


def kinds_at(path: tuple[str, ...], settings: Any) -> list[Any]:
    """List the classes of settings possible at a path, following the names chosen in `settings`."""
    hint: Any = RunConfig
    for key in path:
        if isinstance(settings, list) and key.isdecimal():
            hint, settings = item_of(hint), settings[int(key)]
            continue
        hint = settings_of(hint, settings).get(key, Any)
        settings = settings.get(key) if isinstance(settings, dict) else None
    return components(hint, settings)
