"""Direct Advantage Regression (He et al., arXiv 2504.14177; ICLR 2026, arXiv 2602.11523).

    w(x, y) = min( (pi_ref(y|x) / pi_t(y|x))^rho * exp(A(x, y) / tau), weight_clip )
    L(theta) = - mean w(x, y) log pi_theta(y|x)

with A the per-prompt centred reward, z-scored over the batch. rho is the share of the regularisation given to
the frozen reference, tau the whole of it: in the 2025 paper's letters rho = alpha / (alpha + beta) and
tau = alpha + beta.
"""

from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.adaptive import CONTROLLERS, Coefficients, Evidence, Memory
from dar_jax.algorithms.advantages import Baseline, Deviation, Normalize, advantages
from dar_jax.algorithms.measures import log_ref_over_sampling
from dar_jax.algorithms.notation import RhoAndTau
from dar_jax.algorithms.online import Online, online_metrics
from dar_jax.algorithms.regression import Metrics, batch_of, weighted_regression
from dar_jax.algorithms.weighting import Weighing
from dar_jax.batches import Batch, Rewards, Rollouts, masked_mean, measured
from dar_jax.settings.fields import STRICT, Positive, one_of


def dar_weights(
    reward_PG: jax.Array,
    log_ref_over_sampling_PG: jax.Array,
    *,
    valid_PG: jax.Array | None = None,
    alpha_ratio: float = 0.1,
    total_regularization: float = 0.05,
    weight_clip: float = 20.0,
    normalize: Normalize = "batch",
    baseline: Baseline = "prompt",
    deviation: Deviation = "population",
) -> jax.Array:
    """Return DAR's regression weights `weight_PG` (2504.14177, Algorithm 1, steps 4 to 8).

    `log_ref_over_sampling_PG` is log pi_ref(y|x) - log pi_t(y|x), nats, **summed** over the completion's tokens.
    Entries with `valid_PG` False get weight 0 and do not move the others, whatever number they hold. Computed
    in float32 at least (float64 stays), in log space, clipped on the upper side only; no gradient flows through.
    """
    settings = DAR(
        alpha_ratio=alpha_ratio,
        total_regularization=total_regularization,
        weight_clip=weight_clip,
        normalize=normalize,
        baseline=baseline,
    )
    reward_PG = jnp.asarray(reward_PG)
    valid_PG = jnp.ones(reward_PG.shape, bool) if valid_PG is None else jnp.asarray(valid_PG)
    ratio_PG = jnp.asarray(log_ref_over_sampling_PG)
    return settings.weighing(reward_PG, ratio_PG, valid_PG, deviation=deviation)[1].weight_PG


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DAR(RhoAndTau, Online):
    """The paper's algorithm at the paper's settings.

    `kl_ref_coef` and `kl_sampling_coef` (the 2025 paper's alpha and beta) may be given instead of `alpha_ratio` and
    `total_regularization`; never both. `length_normalize` (off) divides the log-ratio by the completion's length.
    `weight_baseline` (off) takes the mean of the batch's weights, or of the prompt's others, from each: on samples of
    pi_t that leaves the expected gradient at theta = theta_t alone, lessens its variance, and gives those below average
    a weight below 0. `adaptive` (off) steers tau and rho, see `adaptive`.
    """

    name: Literal["dar"] = "dar"
    weight_clip: Positive = 20.0
    baseline: Baseline = "prompt"
    normalize: Normalize = "batch"
    length_normalize: bool = False
    weight_baseline: Literal["none", "batch", "leave_one_out"] = "none"
    adaptive: one_of(CONTROLLERS) | None = None  # type: ignore[valid-type]

    def reject_group_size(self, group_size: int) -> str | None:
        """Say why this group size cannot be learnt from, or None."""
        if group_size == 1 and (self.baseline != "batch" or self.normalize == "prompt"):
            return (
                f"a per-prompt baseline ({self.baseline!r}, normalize {self.normalize!r}) leaves no advantage with one"
                " completion a prompt; set algorithm.baseline=batch and algorithm.normalize=batch, or a group_size of"
                " 2 or more"
            )
        return None

    def begin(self) -> dict[str, float]:
        """Return what the controller carries from step to step at first."""
        alpha = self.alpha_ratio * self.total_regularization
        return self.adaptive.begin(alpha, self.total_regularization - alpha) if self.adaptive else {}

    def learnt(self, memory: Memory, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return what the controller makes of a step."""
        return self.adaptive.learnt(memory, metrics) if self.adaptive else {}

    def weigh(
        self, rollouts: Rollouts, rewards: Rewards, memory: Memory | None = None
    ) -> tuple[Batch, dict[str, jax.Array]]:
        """Turn rewards and log-ratios into regression weights, over the whole global batch at once.

        Returns the batch to regress on and a flat dict of metrics (scalars) and `completion/*` columns (PG).
        """
        reward_PG = self.penalized(rollouts, rewards)
        log_ratio_PG = log_ref_over_sampling(rollouts, per_token=self.length_normalize).reshape(reward_PG.shape)
        advantage_PG, weighing = self.weighing(reward_PG, log_ratio_PG, rewards.valid_PG, memory=memory)
        weight_PG = self._less_baseline(weighing.weight_PG, weighing.used_PG)
        batch = batch_of(rollouts, weight_PG.reshape(-1), weighing.used_PG.reshape(-1))
        return batch, {
            **online_metrics(rollouts, rewards),
            **weighing.metrics(),
            "advantages/abs_max": measured(jnp.abs(advantage_PG).max(), weighing.used_PG),
            "completion/advantage": advantage_PG,
            "completion/weight": weight_PG,
        }

    def weighing(
        self,
        reward_PG: jax.Array,
        log_ref_over_sampling_PG: jax.Array,
        valid_PG: jax.Array,
        deviation: Deviation = "population",
        memory: Memory | None = None,
    ) -> tuple[jax.Array, Weighing]:
        """Return `advantage_PG` and the log-weights in their two terms, in float32 at least."""
        precision = jnp.promote_types(reward_PG.dtype, jnp.float32)
        advantage_PG, used_PG = advantages(
            reward_PG.astype(precision),
            valid_PG,
            baseline=self.baseline,
            normalize=self.normalize,
            deviation=deviation,
        )
        log_ratio_PG = log_ref_over_sampling_PG.astype(precision)
        rho, tau = self._coefficients(Evidence(log_ratio_PG, advantage_PG, used_PG), memory or {})
        return advantage_PG, Weighing(
            from_reference_PG=jnp.where(used_PG, rho * log_ratio_PG, 0.0),
            from_advantage_PG=advantage_PG / tau,
            used_PG=used_PG,
            weight_clip=self.weight_clip,
            coefficients={"dar/alpha_ratio": rho, "dar/total_regularization": tau} if self.adaptive else {},
        )

    def _coefficients(self, seen: Evidence, memory: Memory) -> Coefficients:
        if self.adaptive is None:
            return self.alpha_ratio, self.total_regularization
        found: Coefficients = self.adaptive.coefficients(self.alpha_ratio, self.weight_clip, seen, memory)
        return found

    def _less_baseline(self, weight_PG: jax.Array, used_PG: jax.Array) -> jax.Array:
        if self.weight_baseline == "none":
            return weight_PG
        mean = masked_mean(weight_PG, used_PG)
        if self.weight_baseline == "leave_one_out":
            others_PG = used_PG.sum(1, keepdims=True) - 1
            mean = (weight_PG.sum(1, keepdims=True) - weight_PG) / jnp.maximum(others_PG, 1)
        return jnp.where(used_PG, weight_PG - mean, 0.0)

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the weighted regression loss, summed over examples (see `regression`)."""
        return weighted_regression(logprob_ERT, batch)
