"""Settings of judging that do not depend on the wire."""

import dataclasses
import math
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic.dataclasses import dataclass

from dar_jax.chat.limits import Limits
from dar_jax.chat.retry import RetryPolicy
from dar_jax.errors import SettingError
from dar_jax.judging.answers.parsing import Mode
from dar_jax.judging.canaries import Canaries
from dar_jax.judging.money.prices import Price, list_price
from dar_jax.judging.questions.criteria import Criterion, repeated
from dar_jax.judging.questions.preference_question import PreferenceQuestion
from dar_jax.judging.questions.protocol import Protocol
from dar_jax.judging.questions.rubric_file import Rubric, read_rubric
from dar_jax.judging.questions.rubrics import OF_TWO, RUBRICS, of_two
from dar_jax.settings.fields import STRICT, Count, File, FreeOnResume, Name, Positive, PositiveOrZero, Seconds, Share

# Settings either name a rubric or contain one, so that an error message is about the one that was meant.
NamedOrOwn = Annotated[
    Annotated[Literal["general", "tldr", "helpful", "harmless", "docstring"], Tag("<name>")]
    | Annotated[Rubric, Tag("<own>")],
    Discriminator(lambda given: "<name>" if isinstance(given, str) else "<own>"),
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Judging(Canaries):
    """How to judge, with any wire.

    The question: `rubric` by name, or your own `rubric_text` or `rubric_file`, or `criteria`, one question each, whose
    weighted mean is the reward. Rewards are levels from 1 to `levels`. With `labels: preference` a prompt's completions
    are compared in pairs, in one order or `both`, and a reward is the mean over a completion's comparisons: 1 for the
    better one, 1/2 for a tie, 0.

    The answer: `mode` is `decision` (the probabilities of a typed score), `logprobs` (mean over the probabilities of
    one digit), `samples` (mean of `samples` answers), `single` (one digit; coarse, most completions of a prompt tie),
    or `auto`: the first of these that works in a question at the start. `permutations` asks a decision that many times
    with the levels in another order, and averages. With `reasoning` the judge first writes notes of at most
    `reasoning_tokens`, then answers from them: two calls. `temperature` null sends 0, or 1 for samples. If less than
    `mass_floor` of the probability (or of the samples) is on the levels there is no reward.

    With `thoughts: hide` the judge sees the text after the mark that closes a completion's last thought, and an
    unfinished thought has no reward. The mark is the chat template's, or `</think>` for completions from a file; a mark
    set by `thought_end` must be in every completion. Completions over `max_completion_chars` are shown truncated, which
    the judge is told; `too_long: refuse` fails them.

    Times in seconds: one attempt, one call with its retries, one batch. The run stops if more than `max_failure_share`
    of a batch has no reward, and before it has paid its judge more than `budget_usd` US dollars or `budget_annotations`
    answers, earlier parts of the run and evaluations included. `prices` overrides the built-in list; `endpoint` is the
    name of the address in the ledger, for a server that moves.
    """

    rubric: NamedOrOwn = "general"
    rubric_text: str | None = None
    rubric_file: FreeOnResume[File | None] = None
    criteria: tuple[Criterion, ...] = ()
    labels: Literal["reward", "preference"] = "reward"
    orders: Literal["both", "one"] = "both"
    levels: Count = Field(default=10, ge=2, le=10)
    mode: Mode | Literal["auto"] = "logprobs"
    permutations: Count = Field(default=1, ge=1, le=24)
    samples: Count = Field(default=8, ge=1, le=128)
    temperature: PositiveOrZero | None = None
    max_tokens: Count = 16
    reasoning: bool = False
    reasoning_tokens: Count = 512
    mass_floor: Share = 0.5
    thoughts: Literal["hide", "show"] = "hide"
    thought_end: Name | None = None
    max_completion_chars: Count = 20_000
    too_long: Literal["cut", "refuse"] = "cut"
    concurrency: FreeOnResume[Count] = 32
    requests_per_minute: FreeOnResume[Positive | None] = None
    tokens_per_minute: FreeOnResume[Positive | None] = None
    attempts: FreeOnResume[Count] = 6
    attempt_timeout_s: FreeOnResume[Seconds] = 60.0
    deadline_s: FreeOnResume[Seconds] = 180.0
    batch_deadline_s: FreeOnResume[Seconds] = 1800.0
    max_failure_share: FreeOnResume[Share] = 0.2
    prices: FreeOnResume[Price | None] = None
    endpoint: FreeOnResume[Name | None] = None
    budget_usd: FreeOnResume[Positive | None] = None
    budget_annotations: FreeOnResume[Count | None] = None

    @model_validator(mode="after")
    def _rubric_is_here(self) -> Self:
        """Read the rubric file into the settings, once: a resumed run has the text that it started with."""
        if self.rubric_file is not None and self.rubric == "general":
            try:
                object.__setattr__(self, "rubric", read_rubric(self.rubric_file))
            except ValueError as fault:
                raise ValueError(f"rubric_file: {fault}") from None
        if isinstance(self.rubric, Rubric) and (count := len(self.rubric.levels)):
            if self.levels not in (count, 10):
                raise ValueError(f"levels is {self.levels}, but the rubric describes {count}; leave levels out")
            object.__setattr__(self, "levels", count)
        return self

    @model_validator(mode="after")
    def _one_rubric(self) -> Self:
        if self.rubric_text is not None and not self.rubric_text.strip():
            raise ValueError("rubric_text is empty; write what the judge shall look for, or leave it out")
        if self.rubric_text is not None and self.rubric != "general":
            raise ValueError("rubric and rubric_text are both given; keep one")
        if self.rubric_file is not None and isinstance(self.rubric, str):
            raise ValueError("rubric and rubric_file are both given; keep one")
        if self.criteria and (self.rubric_text is not None or self.rubric != "general"):
            raise ValueError("a rubric and criteria are both given; keep one")
        if twice := repeated(self.criteria):
            raise ValueError(f"criteria: {', '.join(twice)} is there twice; give each its own name")
        return self

    @model_validator(mode="after")
    def _orders_exist(self) -> Self:
        if self.permutations > 1 and self.mode != "decision":
            raise ValueError(
                f"permutations is {self.permutations}, but mode {self.mode} lists no levels: its digits are the grade"
                " itself; set mode to decision, or leave permutations out"
            )
        if self.permutations > (most := math.factorial(self.levels)):
            raise ValueError(f"permutations is {self.permutations}, but {self.levels} levels have {most} orders")
        return self

    @model_validator(mode="after")
    def _preferences_have_no_levels(self) -> Self:
        if self.labels == "reward":
            if self.orders != "both":
                raise ValueError("orders is of comparisons; set labels to preference, or leave orders out")
            return self
        if self.criteria or self.permutations > 1:
            what = "criteria" if self.criteria else "permutations"
            raise ValueError(f"{what} grade a completion by itself; set labels to reward, or leave {what} out")
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
        """The price; None if unknown."""
        return self.prices

    def listed(self, model: str) -> Price | None:
        """Return the vendor's price of a model in this mode; in `auto`, that of its chat API if it has one."""
        if self.mode == "auto":
            return list_price(model) or list_price(model, decision=True)
        return list_price(model, decision=self.mode == "decision")

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """The fixed parts of a judgement's questions: one, or one a criterion."""
        if isinstance(own := self.rubric, Rubric):
            examples = tuple(example.line() for example in own.examples)
            return (Protocol(rubric=own.instructions, count=self.levels, meanings=own.levels, examples=examples),)
        rubrics = [criterion.rubric for criterion in self.criteria] or [self.rubric_text or RUBRICS[own]]
        return tuple(Protocol(rubric=rubric, count=self.levels) for rubric in rubrics)

    @property
    def protocol(self) -> Protocol:
        """The fixed part of the first question."""
        return self.protocols[0]

    @property
    def answers(self) -> int:
        """The number of answers that one question asks for."""
        return self.samples if self.mode == "samples" else 1

    @property
    def comparison(self) -> PreferenceQuestion:
        """The fixed part of a question about two completions."""
        if isinstance(own := self.rubric, Rubric):
            return PreferenceQuestion(rubric=of_two(own.instructions))
        return PreferenceQuestion(rubric=of_two(self.rubric_text) if self.rubric_text else OF_TWO[own])

    def check_rubric(self) -> None:
        """Raise SettingError if the rubric file differs from the text in these settings; a missing file is fine."""
        if self.rubric_file is None or not self.rubric_file.expanduser().is_file():
            return
        try:
            same = read_rubric(self.rubric_file) == self.rubric
        except ValueError as fault:
            raise SettingError(f"judge.rubric_file: {fault}") from None
        if not same:
            raise SettingError(
                f"judge.rubric_file: {self.rubric_file} is not the rubric that the run began with; restore it, or go on"
                " with the old one by judge.rubric_file=null"
            )

    def retry_policy(self) -> RetryPolicy:
        """The retry policy of a call."""
        return RetryPolicy(attempts=self.attempts, attempt_timeout_s=self.attempt_timeout_s, deadline_s=self.deadline_s)

    def share(self, index: int, count: int) -> Self:
        """Return the settings of host `index` of `count` with its share of the rates, at least one call."""
        calls = self.concurrency // count + (index < self.concurrency % count)
        requests, tokens = (rate and rate / count for rate in (self.requests_per_minute, self.tokens_per_minute))
        concurrency = max(1, calls)
        return dataclasses.replace(
            self, concurrency=concurrency, requests_per_minute=requests, tokens_per_minute=tokens
        )

    def limits(self) -> Limits:
        """Return new limits for the calls of one judge."""
        return Limits(self.concurrency, self.requests_per_minute, self.tokens_per_minute)
