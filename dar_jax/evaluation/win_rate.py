"""Win rate of the policy against the initial policy on held-out prompts, by a judge."""

import math
from collections.abc import Sequence
from dataclasses import dataclass as record
from typing import Any, Self

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from dar_jax.data import DATA
from dar_jax.judging import JUDGES
from dar_jax.records import Verdict
from dar_jax.settings.fields import STRICT, Count, PositiveOrZero, one_of

# Rewards are means of probabilities: a difference below one part in a million is rounding.
EVEN = 1e-6


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WinRate:
    """Compare the policy with the initial one on `prompts` prompts of `data`, at the end and every `every_steps` steps.

    Both are sampled with the same random keys; `temperature` null is the sampler's. Judgements are billed as usual. A
    separate `judge` reveals reward hacking of the training judge; its answers are in held_out.sqlite, outside of any
    budget.
    """

    data: one_of(DATA, "files")  # type: ignore[valid-type]
    prompts: Count = 128
    every_steps: Count | None = None
    temperature: PositiveOrZero | None = None
    judge: one_of(JUDGES) | None = None  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _no_budget(self) -> Self:
        if self.judge and (self.judge.budget_usd is not None or self.judge.budget_annotations is not None):
            raise ValueError(
                "judge: an evaluation is asked whenever it is due; leave budget_usd and budget_annotations out"
            )
        return self

    def due(self, step: int, last: int) -> bool:
        """Return whether to evaluate after this step."""
        return step == last or bool(self.every_steps and step % self.every_steps == 0)


@record(frozen=True, kw_only=True)
class Evaluation:
    """The result of an evaluation. Pairs in which either completion has no reward are `unjudged` and not counted."""

    wins: int
    ties: int
    losses: int
    unjudged: int
    reward: float
    start_reward: float
    length: float
    start_length: float

    @property
    def judged(self) -> int:
        """The number of pairs in which both have a reward."""
        return self.wins + self.ties + self.losses

    @property
    def win_rate(self) -> float:
        """The share of judged pairs won, a tie counting one half; NaN if none was judged."""
        return (self.wins + self.ties / 2) / self.judged if self.judged else math.nan

    def metrics(self) -> dict[str, Any]:
        """Return the metrics for the log."""
        low, high = wilson_interval(self.win_rate, self.judged)
        return {
            "eval/win_rate": self.win_rate,
            "eval/win_rate_low": low,
            "eval/win_rate_high": high,
            "eval/wins": self.wins,
            "eval/ties": self.ties,
            "eval/losses": self.losses,
            "eval/unjudged": self.unjudged,
            "eval/reward": self.reward,
            "eval/start_reward": self.start_reward,
            "eval/mean_length": self.length,
            "eval/start_mean_length": self.start_length,
        }

    def describe(self) -> str:
        """Return the result in one line."""
        low, high = wilson_interval(self.win_rate, self.judged)
        return (
            f"held-out: reward {self.reward:.2f} against {self.start_reward:.2f} at the start;"
            f" wins {self.wins}, ties {self.ties}, losses {self.losses} of {self.judged} prompts"
            f" (win rate {self.win_rate:.1%}, 95 % interval {low:.1%} to {high:.1%});"
            f" length {self.length:.1f} against {self.start_length:.1f} tokens"
        )


def compare(
    lengths: Sequence[int],
    verdicts: Sequence[Verdict],
    start_lengths: Sequence[int],
    start_verdicts: Sequence[Verdict],
) -> Evaluation:
    """Compare the policy's completions with the initial policy's, prompt by prompt; lengths are in tokens."""
    pairs = [
        (ours.reward, theirs.reward)
        for ours, theirs in zip(verdicts, start_verdicts, strict=True)
        if ours.reward is not None and theirs.reward is not None
    ]
    wins = sum(ours > theirs + EVEN for ours, theirs in pairs)
    losses = sum(ours < theirs - EVEN for ours, theirs in pairs)
    return Evaluation(
        wins=wins,
        ties=len(pairs) - wins - losses,
        losses=losses,
        unjudged=len(verdicts) - len(pairs),
        reward=mean([ours for ours, _ in pairs]),
        start_reward=mean([theirs for _, theirs in pairs]),
        length=mean(lengths),
        start_length=mean(start_lengths),
    )


def wilson_interval(share: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share of `count` trials (E. B. Wilson, JASA 1927)."""
    if not count:
        return math.nan, math.nan
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z * z / count)
    return middle - half, middle + half


def mean(values: Sequence[float]) -> float:
    """Return the mean, NaN of nothing."""
    return sum(values) / len(values) if values else math.nan
