"""Advantage-Weighted Regression (Peng et al., arXiv 1910.00177), the parent of DAR.

    w(x, y) = min(exp(A(x, y) / temperature), weight_clip),   L(theta) = - mean w(x, y) log pi_theta(y|x)

The mean reward of a prompt's completions takes the place of the fitted value function. It is DAR without a reference
in its weights (rho = 0).
"""

from typing import Literal

import jax
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.advantages import Baseline, Normalize
from dar_jax.algorithms.dar import DAR
from dar_jax.algorithms.online import Online
from dar_jax.algorithms.regression import Metrics, weighted_regression
from dar_jax.batches import Batch, Rewards, Rollouts
from dar_jax.settings.fields import STRICT, Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AWR(Online):
    """AWR at the settings of its authors' code: temperature 1, clip 20, advantages z-scored over the batch."""

    name: Literal["awr"] = "awr"
    temperature: Positive = 1.0
    weight_clip: Positive = 20.0
    baseline: Baseline = "prompt"
    normalize: Normalize = "batch"

    def reject_group_size(self, group_size: int) -> str | None:
        """Say why this group size cannot be learnt from, or None."""
        return self._dar().reject_group_size(group_size)

    def weigh(self, rollouts: Rollouts, rewards: Rewards) -> tuple[Batch, Metrics]:
        """Turn rewards into regression weights, over the whole global batch at once."""
        return self._dar().weigh(rollouts, rewards)

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the weighted regression loss, summed over examples (see `regression`)."""
        return weighted_regression(logprob_ERT, batch)

    def _dar(self) -> DAR:
        return DAR(
            alpha_ratio=0.0,
            total_regularization=self.temperature,
            weight_clip=self.weight_clip,
            baseline=self.baseline,
            normalize=self.normalize,
            missing_eos_penalty=self.missing_eos_penalty,
        )
