"""Offline DPO (Rafailov et al., arXiv 2305.18290) on recorded pairs: what people chose and what they rejected.

    L(theta) = - mean over pairs of log sigmoid(beta (h(y+) - h(y-)))

with h(y) = log pi_theta(y|x)/pi_ref(y|x), y+ the better completion of a pair and y- the other.
"""

from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from pydantic import Field
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.base import Recorded, completion_metrics
from dar_jax.algorithms.losses import Metrics, logistic
from dar_jax.algorithms.pairs import margin_of, pairs_of, pairwise_loss
from dar_jax.batches import Batch, Rewards, Rollouts
from dar_jax.settings.fields import STRICT, Positive, Share


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OfflineDPO(Recorded):
    """DPO on the set's columns `chosen` and `rejected`; needs no judge and no sampler.

    `label_smoothing` is the rate at which the labels are taken to be wrong (off).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "reference"})
    rows_per_example: ClassVar[int] = 2

    name: Literal["offline_dpo"] = "offline_dpo"
    beta: Positive = 0.1
    label_smoothing: Share = Field(default=0.0, lt=0.5)

    def weigh(self, rollouts: Rollouts, rewards: Rewards | None = None) -> tuple[Batch, Metrics]:
        """Return a batch of the prompts' pairs, the chosen completion first."""
        better_E2 = jnp.tile(jnp.array([1.0, 0.0]), (rollouts.ended_B.shape[0] // 2, 1))
        return pairs_of(rollouts, better_E2, jnp.ones(better_E2.shape, bool)), completion_metrics(rollouts)

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the logistic loss of the margin, summed over pairs."""
        margin_E = margin_of(logprob_ERT, batch, tau=self.beta, rho=1.0)
        return pairwise_loss(logistic(margin_E, self.label_smoothing), margin_E, logprob_ERT, batch)
