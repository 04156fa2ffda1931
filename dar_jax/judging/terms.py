"""The settings of judging that no wire needs to know, and the requests they make."""

import dataclasses
from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from pydantic.dataclasses import dataclass

from dar_jax.chat.limits import Limits
from dar_jax.chat.retry import Patience
from dar_jax.chat.wire import Request
from dar_jax.judging.budget import Budget, annotations_limit, usd_limit
from dar_jax.judging.canaries import Canaries
from dar_jax.judging.parsing import Mode
from dar_jax.judging.prices import Price
from dar_jax.judging.protocol import Protocol, content_seed
from dar_jax.judging.rubrics import RUBRICS
from dar_jax.judging.rules import cut
from dar_jax.judging.spent import Spent
from dar_jax.records import Completion
from dar_jax.settings import STRICT

# The most that OpenAI and vLLM give.
TOP_LOGPROBS = 20


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Judging(Canaries):
    """How to judge, whichever wire carries the questions.

    The question: `rubric` by name, or `rubric_text` of your own; rewards are the levels 1 to `levels`.
    The answer: `mode` is `logprobs` (mean over one digit's probabilities), `samples` (mean of `samples` answers)
    or `single` (one digit; coarse, most completions of a prompt tie). `temperature` null sends 0, or 1 for
    samples. Less than `mass_floor` of the probability (or of the samples) on the levels is no reward.
    Completions over `max_completion_chars` are shown cut, and the judge is told; `too_long: refuse` fails them.
    Times in seconds: one attempt, one call with its retries, one batch. More than `max_failure_share` of a
    batch without a reward stops the run. `prices` overrides the built-in list; `endpoint` is the address's
    name in the ledger, for a server that moves. A run stops before it has paid its judge more than `budget_usd` US
    dollars or `budget_annotations` answers, its earlier parts and its evaluations included.
    """

    rubric: Literal["general", "tldr", "helpful", "harmless", "docstring"] = "general"
    rubric_text: str | None = None
    levels: int = Field(default=10, ge=2, le=10)
    mode: Mode = "logprobs"
    samples: int = Field(default=8, ge=1, le=128)
    temperature: NonNegativeFloat | None = None
    max_tokens: PositiveInt = 16
    mass_floor: float = Field(default=0.5, ge=0.0, le=1.0)
    max_completion_chars: PositiveInt = 20_000
    too_long: Literal["cut", "refuse"] = "cut"
    concurrency: PositiveInt = 32
    requests_per_minute: PositiveFloat | None = None
    attempts: PositiveInt = 6
    attempt_timeout_s: PositiveFloat = 60.0
    deadline_s: PositiveFloat = 180.0
    batch_deadline_s: PositiveFloat = 1800.0
    max_failure_share: float = Field(default=0.2, ge=0.0, le=1.0)
    prices: Price | None = None
    endpoint: str | None = None
    budget_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    budget_annotations: PositiveInt | None = None

    @model_validator(mode="after")
    def _one_rubric(self) -> Self:
        if self.rubric_text is not None and not self.rubric_text.strip():
            raise ValueError("rubric_text is empty; write what the judge shall look for, or leave it out")
        if self.rubric_text is not None and self.rubric != "general":
            raise ValueError("rubric and rubric_text are both given; keep one")
        return self

    @model_validator(mode="after")
    def _dollars_can_be_counted(self) -> Self:
        if self.budget_usd is not None and self.price is None:
            raise ValueError(
                f"budget_usd is {self.budget_usd:g}, but this judge's price is unknown, not 0; state judge.prices, or"
                " bound its answers by judge.budget_annotations"
            )
        return self

    @property
    def price(self) -> Price | None:
        """What it costs; None: unknown."""
        return self.prices

    @property
    def protocol(self) -> Protocol:
        """The question's fixed part."""
        return Protocol(rubric=self.rubric_text or RUBRICS[self.rubric], count=self.levels)

    @property
    def answers(self) -> int:
        """How many answers one question asks for."""
        return self.samples if self.mode == "samples" else 1

    def request(self, completion: Completion) -> Request:
        """Write the request for one judgement."""
        text, missing = cut(completion.text, self.max_completion_chars)
        messages = self.protocol.messages(completion.prompt.text, text, missing)
        default = 1.0 if self.mode == "samples" else 0.0
        return Request(
            messages=messages,
            max_tokens=self.max_tokens,
            temperature=default if self.temperature is None else self.temperature,
            n=self.answers,
            seed=content_seed(messages) if self.mode == "samples" else None,
            top_logprobs=TOP_LOGPROBS if self.mode == "logprobs" else 0,
            choices=self.protocol.labels,
        )

    def patience(self) -> Patience:
        """How long a call insists."""
        return Patience(attempts=self.attempts, attempt_timeout_s=self.attempt_timeout_s, deadline_s=self.deadline_s)

    def share(self, index: int, count: int) -> Self:
        """Divide the rates among the hosts of a run: what host `index` of `count` may do, one call at least."""
        calls = self.concurrency // count + (index < self.concurrency % count)
        rate = self.requests_per_minute and self.requests_per_minute / count
        return dataclasses.replace(self, concurrency=max(1, calls), requests_per_minute=rate)

    def budget(self, price: Price | None, before: Spent, index: int = 0, count: int = 1) -> Budget:
        """A new budget for host `index` of `count`, of a run that has spent so much `before`."""
        limits = []
        if self.budget_annotations is not None:
            limits.append(annotations_limit(self.budget_annotations, before, index, count))
        if self.budget_usd is not None and price is not None:
            limits.append(usd_limit(self.budget_usd, price, before, count))
        return Budget(limits, before)

    def limits(self) -> Limits:
        """A new gate for the calls of one judge."""
        return Limits(self.concurrency, self.requests_per_minute)
