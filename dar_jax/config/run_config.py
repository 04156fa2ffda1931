"""The settings of a run, composed of the settings of its parts; `config_file.read_config` reads them."""

from typing import Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

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
from dar_jax.settings.fields import (
    FREE_ON_RESUME,
    STRICT,
    Count,
    CountOrZero,
    File,
    FreeOnResume,
    PathOrId,
    one_of,
)
from dar_jax.settings.hints import components, hints_of, item_hint
from dar_jax.terminal.console import Display
from dar_jax.tokens import TokenizerSettings


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PolicySettings:
    """The model to align: a folder or hub id of a Hugging Face checkpoint.

    With `weights: random` only its config.json is read, and the weights are initialized from `seed`. With `lora` only
    adapters are trained, and the reference is the model without them.
    """

    path: FreeOnResume[PathOrId]
    weights: Literal["pretrained", "random"] = "pretrained"
    lora: Lora | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunConfig:
    """A run. Each step samples `group_size` completions for each of `prompts_per_step` prompts, judges them, and learns
    from the rewards.

    All random keys derive from `seed`: data order, samples, minibatches. An empty or overlong prompt is an error or is
    skipped, by `on_bad_prompt`. After `max_tied_steps` consecutive steps whose rewards are tied in every group, so that
    there is nothing to learn, the run saves and ends (null: never). `judge` may be null for an algorithm that learns
    from recorded completions. `ledger` is a folder for the judges' answers (null: the run folder). Runs on one machine
    may share one: an answer bought by one run is free for the others, and all answers in it count against each run's
    budgets and judge/spent_*.

    A resumed run may change the fields marked FreeOnResume. What data, tokenizer and weights contain must stay the
    same; `run.origin` checks it.
    """

    policy: PolicySettings
    data: one_of(DATA, "files")  # type: ignore[valid-type]
    judge: one_of(JUDGES) | None = None  # type: ignore[valid-type]
    algorithm: one_of(ALGORITHMS, "dar") = Field(default_factory=DAR)  # type: ignore[valid-type]
    steps: FreeOnResume[Count] = 100
    prompts_per_step: Count = 128
    group_size: Count = 4
    seed: CountOrZero = 0
    max_tied_steps: FreeOnResume[Count | None] = 5
    on_bad_prompt: OnBad = "error"
    tokenizer: TokenizerSettings = Field(default_factory=TokenizerSettings)
    sampling: Sampling = Field(default_factory=Sampling)
    learning: Learning = Field(default_factory=Learning)
    reference: FreeOnResume[Reference] = Field(default_factory=Reference)
    mesh: FreeOnResume[MeshShape] = Field(default_factory=MeshShape)
    checkpoints: FreeOnResume[Checkpointing] = Field(default_factory=Checkpointing)
    evaluation: FreeOnResume[WinRate | None] = None
    ledger: FreeOnResume[File | None] = None
    display: FreeOnResume[Display] = Field(default_factory=Display)

    @property
    def rows_per_step(self) -> int:
        """The number of completions in a step, sampled or recorded."""
        return self.prompts_per_step * (self.group_size if self.online else self.algorithm.rows_per_example)

    @property
    def rows_per_update(self) -> int:
        """The number of completions in an update."""
        examples = self.algorithm.examples(self.prompts_per_step, self.group_size)
        return examples // self.learning.minibatches * self.algorithm.rows_per_example

    @property
    def prompts_per_chunk(self) -> int:
        """The number of prompts sampled at once."""
        return self.prompts_per_step // self.sampling.chunks

    @property
    def online(self) -> bool:
        """Whether the policy learns from its own completions and their rewards."""
        return "rewards" in self.algorithm.needs

    def forecast(self, judged: int, **assumed: float) -> Forecast | None:
        """Estimate the calls, tokens and cost of judging `judged` completions; None if the run has no online judge.

        `assumed` overrides assumptions of `judging.money.forecast`.
        """
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
    def _settings_agree(self) -> Self:
        if getattr(self.data, "pairs", False) and "pairs" not in self.algorithm.needs:
            ignored = f"algorithm {self.algorithm.name} would not learn from the recorded pairs"
            raise _disagreement("data.pairs", f"{ignored}; leave it out, or set algorithm.name=offline_dpo")
        if self.online and self.judge is None:
            raise _disagreement("judge", f"algorithm {self.algorithm.name} learns from rewards, so state a judge")
        if self.evaluation and self.evaluation.judge is None and self.judge is None:
            raise _disagreement("evaluation.judge", "the run has no judge; state one here, or leave evaluation out")
        if reason := self.algorithm.reject_group_size(self.group_size):
            raise _disagreement("group_size", reason)
        if self.online and self.judge and self.judge.labels == "preference" and self.group_size < 2:
            raise _disagreement(
                "group_size", "judge.labels=preference compares a prompt's completions; sample 2 or more"
            )
        if self.policy.lora and self.policy.weights == "random":
            raise _disagreement("policy.lora", "adapters need a pretrained base model; leave weights: random out")
        if self.policy.lora and self.reference.placement == "host":
            raise _disagreement(
                "reference.placement", "with policy.lora the reference is the frozen model itself; leave it out"
            )
        if self.online and self.prompts_per_step % self.sampling.chunks:
            sizes = f"{self.prompts_per_step} prompts a step cannot be split into {self.sampling.chunks} equal chunks"
            raise _disagreement("sampling.chunks", f"{sizes}; choose a divisor of {self.prompts_per_step}")
        examples, together = self.algorithm.examples(self.prompts_per_step, self.group_size), self._together
        if examples % self.learning.minibatches:
            sizes = f"{examples} {together} a step cannot be split into {self.learning.minibatches} equal minibatches"
            raise _disagreement("learning.updates_per_batch", f"{sizes}; choose a divisor of {examples}")
        micro, each = self.learning.micro_batch_size, self.rows_per_update
        if micro and (each % micro or micro % self.algorithm.rows_per_example):
            sizes = f"an update's {each} completions are not a multiple of {micro}"
            whole = "" if together == "completions" else " that keeps pairs together"
            raise _disagreement("learning.micro_batch_size", f"{sizes}; choose a divisor of {each}{whole}")
        return self

    @property
    def _together(self) -> str:
        return "completions" if self.algorithm.rows_per_example == 1 else "pairs"


def _disagreement(key: str, reason: str) -> ValueError:
    return ValueError(f"{key}: {reason}")


_ADAPTER: TypeAdapter[RunConfig] = TypeAdapter(RunConfig)


def validate(settings: dict[str, Any]) -> RunConfig:
    """Return the config with these plain values. Raises pydantic's ValidationError."""
    return _ADAPTER.validate_python(settings)


def to_plain(config: RunConfig) -> dict[str, Any]:
    """Return the resolved settings as plain values. They contain no secrets."""
    return dict(_ADAPTER.dump_python(config, mode="json"))


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Return the changes that a resume may not make, as `key: old -> new`."""
    before, after = fixed(old), fixed(new)
    keys = [key for key in sorted(before | after) if before.get(key) != after.get(key)]
    return [f"{key}: {before.get(key)!r} -> {after.get(key)!r}" for key in keys]


def fixed(config: RunConfig) -> dict[str, Any]:
    """Return the settings that a resume may not change, by key, as plain values."""
    return {key: value for key, value in flat(config).items() if not is_free(key)}


def is_free(key: str) -> bool:
    """Return whether a resume may change a setting: it, or a component that holds it, is marked FreeOnResume."""
    hints: list[Any] = [RunConfig]
    for name in key.split("."):
        if name.isdecimal():
            hints = [item_hint(hint) for hint in hints]
            continue
        fields = [hints_of(kind) for hint in hints for kind in components(hint)]
        hints = [field[name] for field in fields if name in field]
        if any(FREE_ON_RESUME in getattr(hint, "__metadata__", ()) for hint in hints):
            return True
    return False


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
