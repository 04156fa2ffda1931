"""The words that pass between rooms: prompts, completions, verdicts. Plain Python, never jax."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "refused", "blocked", "unparsable", "truncated", "timeout", "failed", "over_budget"]


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of a conversation, in TRL's form."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt of the data.

    `id` is its row in the unshuffled source: the address of its random keys. `messages` is set where
    the source gave a conversation; `text` is then its readable transcript, which judges are shown.
    `turns` are its messages with all their keys, where one has more than role and content; `tools` and
    `template_arguments` are the row's own, for the chat template.
    """

    id: int
    text: str
    messages: tuple[Message, ...] | None = None
    turns: tuple[Mapping[str, Any], ...] | None = None
    tools: tuple[Mapping[str, Any], ...] | None = None
    template_arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One sampled text. `sample` counts the completions of a prompt; `ended` says that EOS came.

    `occasion` sets its judgement apart from others of the same text: it is asked anew, not found in the ledger.
    `thought_end` is the mark that closes a thought in `text`: empty where whoever wrote it has none, None where nobody
    thought. `thought_open` says that the prompt itself opened one.
    """

    prompt: Prompt
    sample: int
    text: str
    token_count: int
    ended: bool
    occasion: str = ""
    thought_end: str | None = None
    thought_open: bool = False


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """A judgement over ordered levels. `probabilities` sum to 1 over the levels; `mass` is what the
    judge gave to the levels before that normalisation (1.0 where it cannot say).
    """

    levels: tuple[float, ...]
    probabilities: tuple[float, ...]
    mass: float = 1.0

    @property
    def mean(self) -> float:
        """The expected level: the reward."""
        return sum(level * p for level, p in zip(self.levels, self.probabilities, strict=True))


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens billed for a judgement. `cached_tokens` are part of `input_tokens`."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
        )

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens - other.input_tokens,
            cached_tokens=self.cached_tokens - other.cached_tokens,
            output_tokens=self.output_tokens - other.output_tokens,
        )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A judgement: a distribution when `status` is "ok", otherwise the reason why there is none.

    `annotations` counts the answers billed for it, `calls` the requests sent, those turned away as well; `cost_usd`
    is None where the price is unknown; `from_ledger` says it was paid for before: all of these are then 0;
    `estimated` counts the answers whose usage the server did not report: `usage` and `cost_usd` hold estimates of them;
    `provenance` is how the judge answered (`decision`, `logprobs`, `samples`, `single`, `rule`), of `over_budget` the
    setting. `gap` is how far the rewards of a panel's judges are apart, None of a judge alone; `consistency` the share
    of comparisons in which both orders gave the same, None where none was asked in both; `chose_first` the share of the
    answers to comparisons that named the completion shown first, `belief` their mean probability that this one is the
    better.
    """

    status: Status
    distribution: Distribution | None = None
    reason: str = ""
    provenance: str = ""
    served_model: str = ""
    usage: Usage = field(default_factory=Usage)
    annotations: int = 0
    calls: int = 0
    cost_usd: float | None = None
    estimated: int = 0
    from_ledger: bool = False
    gap: float | None = None
    consistency: float | None = None
    chose_first: float | None = None
    belief: float | None = None

    def __post_init__(self) -> None:
        if (self.status == "ok") != (self.distribution is not None):
            raise ValueError(f"status {self.status!r} with distribution {self.distribution!r}")

    @property
    def reward(self) -> float | None:
        """The reward in the rubric's own units, or None: a failed judgement is never a number."""
        return None if self.distribution is None else self.distribution.mean
