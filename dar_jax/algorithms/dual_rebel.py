"""REBEL towards DAR's optimum: the difference of two rewards regressed on, with both KL terms.

    L(theta) = mean over pairs of ( tau D log pi_theta - rho tau D log pi_ref - (1 - rho) tau D log pi_t - D A )^2

It has the optimum of DAR (2504.14177), uses the worse completions too, and needs neither exponential nor clip. With
rho = 0 it is REBEL (Gao et al., arXiv 2404.16767) with eta = 1 / tau.
"""

from typing import Literal

import jax
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.losses import Metrics
from dar_jax.algorithms.notation import RhoAndTau
from dar_jax.algorithms.pairs import RewardDifferences
from dar_jax.batches import Batch
from dar_jax.settings.fields import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DualREBEL(RhoAndTau, RewardDifferences):
    """Dual-KL REBEL at the paper's tau and rho."""

    name: Literal["dual_rebel"] = "dual_rebel"

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the squared distance of the margin from the difference of advantages, summed over pairs."""
        return self.squared_loss(logprob_ERT, batch, tau=self.total_regularization, rho=self.alpha_ratio)
