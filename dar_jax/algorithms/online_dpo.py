"""Online DPO (OAIF, Guo et al., arXiv 2402.04792; DPO, Rafailov et al., arXiv 2305.18290).

    L(theta) = - mean over pairs of log sigmoid(beta (h(y+) - h(y-)))

with h(y) = log pi_theta(y|x)/pi_ref(y|x), y+ the better completion of a pair and y- the other.
"""

from typing import Literal

import jax
from pydantic import Field
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.losses import Metrics, logistic
from dar_jax.algorithms.pairs import Preferences, margin_of, pairwise_loss
from dar_jax.batches import Batch
from dar_jax.settings.fields import STRICT, Positive, Share


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OnlineDPO(Preferences):
    """DPO on the policy's own pairs. `label_smoothing` is the rate at which the judge is taken to be wrong (off)."""

    name: Literal["online_dpo"] = "online_dpo"
    beta: Positive = 0.1
    label_smoothing: Share = Field(default=0.0, lt=0.5)

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the logistic loss of the margin, summed over pairs."""
        margin_E = margin_of(logprob_ERT, batch, tau=self.beta, rho=1.0)
        return pairwise_loss(logistic(margin_E, self.label_smoothing), margin_E, logprob_ERT, batch)
