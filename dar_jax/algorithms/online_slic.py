"""Online SLiC (OAIF, Guo et al., arXiv 2402.04792; SLiC-HF, Zhao et al., arXiv 2305.10425).

    L(theta) = mean over pairs of max(0, 1 - beta (h(y+) - h(y-)))

with h(y) = log pi_theta(y|x)/pi_ref(y|x), y+ the better completion of a pair and y- the other.
"""

from typing import Literal

import jax
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.losses import Metrics, hinge
from dar_jax.algorithms.pairs import Preferences, margin_of, pairwise_loss
from dar_jax.batches import Batch
from dar_jax.settings.fields import STRICT, Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OnlineSLiC(Preferences):
    """SLiC on the policy's own pairs: a pair whose margin is above 1 teaches no more."""

    name: Literal["online_slic"] = "online_slic"
    beta: Positive = 0.1

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the hinge loss of the margin, summed over pairs."""
        margin_E = margin_of(logprob_ERT, batch, tau=self.beta, rho=1.0)
        return pairwise_loss(hinge(margin_E), margin_E, logprob_ERT, batch)
