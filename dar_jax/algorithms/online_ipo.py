"""Online IPO (OAIF, Guo et al., arXiv 2402.04792; IPO, Azar et al., arXiv 2310.12036).

    L(theta) = mean over pairs of (h(y+) - h(y-) - 1 / (2 beta))^2

with h(y) = log pi_theta(y|x)/pi_ref(y|x), y+ the better completion of a pair and y- the other.
"""

from typing import Literal

import jax
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.losses import Metrics, squared
from dar_jax.algorithms.pairs import Preferences, margin_of, pairwise_loss
from dar_jax.batches import Batch
from dar_jax.settings.fields import STRICT, Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OnlineIPO(Preferences):
    """IPO on the policy's own pairs; `beta` sets how far apart two completions are to be, in nats."""

    name: Literal["online_ipo"] = "online_ipo"
    beta: Positive = 0.1

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the squared distance of the margin from its target, summed over pairs."""
        margin_E = margin_of(logprob_ERT, batch, tau=1.0, rho=1.0)
        return pairwise_loss(squared(margin_E, 1 / (2 * self.beta)), margin_E, logprob_ERT, batch)
