"""DPO towards DAR's optimum: both KL terms in the margin, preferences instead of rewards.

    L(theta) = - mean over pairs of log sigmoid(margin),
    margin   = tau D log pi_theta - rho tau D log pi_ref - (1 - rho) tau D log pi_t

The objective of 2504.14177 has the optimum pi_ref^rho pi_t^(1-rho) exp(r / tau) / Z; solved for r, Z cancels between
two completions as in DPO. pi_t is the policy that sampled the batch; with rho = 1 this is online DPO with beta = tau.
"""

from typing import Literal

import jax
from pydantic import Field
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.losses import Metrics, logistic
from dar_jax.algorithms.notation import RhoAndTau
from dar_jax.algorithms.pairs import Preferences, margin_of, pairwise_loss
from dar_jax.batches import Batch
from dar_jax.settings.fields import STRICT, Share


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DualDPO(RhoAndTau, Preferences):
    """Dual-KL DPO; `label_smoothing` bounds the margin where a judge's labels are certain (off)."""

    name: Literal["dual_dpo"] = "dual_dpo"
    label_smoothing: Share = Field(default=0.0, lt=0.5)

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the logistic loss of the margin, summed over pairs."""
        margin_E = margin_of(logprob_ERT, batch, tau=self.total_regularization, rho=self.alpha_ratio)
        return pairwise_loss(logistic(margin_E, self.label_smoothing), margin_E, logprob_ERT, batch)
