"""REBEL (Gao et al., arXiv 2404.16767): the difference of two rewards, regressed on by log-ratios to pi_t.

    L(theta) = mean over pairs of ( (1 / eta) D log pi_theta(y|x)/pi_t(y|x) - D A )^2

where D is the difference of the better and the worse completion of a pair, and A the normalised reward.
"""

from typing import Literal

import jax
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.losses import Metrics
from dar_jax.algorithms.pairs import RewardDifferences
from dar_jax.batches import Batch
from dar_jax.settings.fields import STRICT, Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class REBEL(RewardDifferences):
    """REBEL; `eta` is the step towards better rewards, in nats a unit of the normalised reward."""

    name: Literal["rebel"] = "rebel"
    eta: Positive = 1.0

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the squared distance of the margin from the difference of advantages, summed over pairs."""
        return self.squared_loss(logprob_ERT, batch, tau=1 / self.eta, rho=0.0)
