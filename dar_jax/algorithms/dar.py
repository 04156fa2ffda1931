"""Direct Advantage Regression (He et al., arXiv 2504.14177; ICLR 2026, arXiv 2602.11523).

    w(x, y) = min( (pi_ref(y|x) / pi_t(y|x))^rho * exp(A(x, y) / tau), weight_clip )
    L(theta) = - mean w(x, y) log pi_theta(y|x)

with A the per-prompt centred reward, z-scored over the batch. rho is the share of the regularization that goes to the
frozen reference, tau the total: in the 2025 paper's letters rho = alpha / (alpha + beta) and tau = alpha + beta.

Weights are computed in log space and clipped before the exponential: with z-scored advantages and tau = 0.05 the
exponent passes float32's 88.7 on ordinary batches.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from pydantic.dataclasses import dataclass

from dar_jax.algorithms.adaptive import CONTROLLERS, Coefficients, Evidence, Memory
from dar_jax.algorithms.base import (
    Baseline,
    Deviation,
    Normalize,
    Online,
    advantages,
    log_ref_over_sampling,
    weighted_batch,
)
from dar_jax.algorithms.losses import Metrics
from dar_jax.algorithms.notation import RhoAndTau
from dar_jax.batches import Batch, Rewards, Rollouts, masked_mean, measured, measured_mean
from dar_jax.settings.fields import STRICT, Positive, one_of

_NEAR_ZERO = 0.05


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
    Entries with `valid_PG` False get weight 0 and do not affect the others, whatever number they hold. Computed in
    float32 at least (float64 stays), clipped on the upper side only; no gradient flows through.
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
    _, terms = settings.log_weights(reward_PG, ratio_PG, valid_PG, deviation=deviation)
    return terms.weight(weight_clip)


class LogWeights(NamedTuple):
    """The two terms of the log-weights, 0 where `used_PG` is False, and the rho and tau that they were made with."""

    reference_PG: jax.Array
    advantage_PG: jax.Array
    used_PG: jax.Array
    rho: jax.Array | float
    tau: jax.Array | float

    def weight(self, clip: float) -> jax.Array:
        """Return the detached `weight_PG`, 0 where nothing is used."""
        return clipped_weight(self.reference_PG + self.advantage_PG, self.used_PG, clip)

    def metrics(self, clip: float) -> Metrics:
        """Return metrics of the weights; `dar/log_weight_*` are the mean sizes of the two terms."""
        used_PG, weight_PG = self.used_PG, self.weight(clip)
        reference = measured_mean(jnp.abs(self.reference_PG), used_PG)
        advantage = measured_mean(jnp.abs(self.advantage_PG), used_PG)
        both, size = reference + advantage, effective_sample_size(weight_PG)
        clipped_PG = self.reference_PG + self.advantage_PG >= jnp.log(clip)
        share = jnp.where(both > 0, reference / jnp.where(both > 0, both, 1.0), 0.0)
        return {
            "dar/clip_fraction": measured_mean(clipped_PG.astype(jnp.float32), used_PG),
            "dar/near_zero_fraction": measured_mean((weight_PG < _NEAR_ZERO).astype(jnp.float32), used_PG),
            "dar/weight_mean": measured_mean(weight_PG, used_PG),
            "dar/weight_max": measured(weight_PG.max(), used_PG),
            "dar/effective_sample_size": size,
            "dar/effective_sample_share": measured(size / jnp.maximum(used_PG.sum(), 1), used_PG),
            "dar/log_weight_reference": reference,
            "dar/log_weight_advantage": advantage,
            "dar/reference_share": measured(share, used_PG),
            "dar/used_fraction": used_PG.mean(dtype=jnp.float32),
        }


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DAR(RhoAndTau, Online):
    """The paper's algorithm at the paper's settings.

    `kl_ref_coef` and `kl_sampling_coef` (the 2025 paper's alpha and beta) may be given instead of `alpha_ratio` and
    `total_regularization`; never both. `length_normalize` (off) divides the log-ratio by the completion's length.
    `weight_baseline` (off) subtracts the mean weight of the batch, or of the prompt's other completions: on samples of
    pi_t that keeps the expected gradient at theta = theta_t, lowers its variance, and gives completions below average
    a negative weight. `adaptive` (off) adapts tau and rho (see `adaptive`).
    """

    name: Literal["dar"] = "dar"
    weight_clip: Positive = 20.0
    baseline: Baseline = "prompt"
    normalize: Normalize = "batch"
    length_normalize: bool = False
    weight_baseline: Literal["none", "batch", "leave_one_out"] = "none"
    adaptive: one_of(CONTROLLERS) | None = None  # type: ignore[valid-type]

    def reject_group_size(self, group_size: int) -> str | None:
        """Return why this group size cannot be used, or None if it can."""
        return reject_single(group_size, self.baseline, self.normalize)

    def initial_memory(self) -> dict[str, float]:
        """Return the controller's initial memory."""
        alpha = self.alpha_ratio * self.total_regularization
        return self.adaptive.initial_memory(alpha, self.total_regularization - alpha) if self.adaptive else {}

    def updated_memory(self, memory: Memory, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return the controller's memory after a step with these metrics."""
        return self.adaptive.updated_memory(memory, metrics) if self.adaptive else {}

    def weigh(self, rollouts: Rollouts, rewards: Rewards, memory: Memory | None = None) -> tuple[Batch, Metrics]:
        """Return the batch to regress on, weighted over the whole global batch at once, and metrics.

        Metrics are scalars, and `completion/*` columns (PG).
        """
        reward_PG = self.penalized(rollouts, rewards)
        log_ratio_PG = log_ref_over_sampling(rollouts, per_token=self.length_normalize).reshape(reward_PG.shape)
        advantage_PG, terms = self.log_weights(reward_PG, log_ratio_PG, rewards.valid_PG, memory=memory)
        weight_PG = self._centred(terms.weight(self.weight_clip), terms.used_PG)
        batch, metrics = weighted_batch(rollouts, rewards, advantage_PG, weight_PG, terms.used_PG)
        in_force = {"dar/alpha_ratio": terms.rho, "dar/total_regularization": terms.tau} if self.adaptive else {}
        return batch, metrics | terms.metrics(self.weight_clip) | jax.tree.map(jnp.asarray, in_force)

    def log_weights(
        self,
        reward_PG: jax.Array,
        log_ref_over_sampling_PG: jax.Array,
        valid_PG: jax.Array,
        deviation: Deviation = "population",
        memory: Memory | None = None,
    ) -> tuple[jax.Array, LogWeights]:
        """Return `advantage_PG` and the log-weights, in float32 at least."""
        precision = jnp.promote_types(reward_PG.dtype, jnp.float32)
        advantage_PG, used_PG = advantages(
            reward_PG.astype(precision),
            valid_PG,
            baseline=self.baseline,
            normalize=self.normalize,
            deviation=deviation,
        )
        log_ratio_PG = jnp.where(used_PG, log_ref_over_sampling_PG.astype(precision), 0.0)
        rho, tau = self._coefficients(Evidence(log_ratio_PG, advantage_PG, used_PG), memory or {})
        return advantage_PG, LogWeights(rho * log_ratio_PG, advantage_PG / tau, used_PG, rho, tau)

    def _coefficients(self, evidence: Evidence, memory: Memory) -> Coefficients:
        if self.adaptive is None:
            return self.alpha_ratio, self.total_regularization
        found: Coefficients = self.adaptive.coefficients(self.alpha_ratio, self.weight_clip, evidence, memory)
        return found

    def _centred(self, weight_PG: jax.Array, used_PG: jax.Array) -> jax.Array:
        if self.weight_baseline == "none":
            return weight_PG
        mean = masked_mean(weight_PG, used_PG)
        if self.weight_baseline == "leave_one_out":
            others_PG = used_PG.sum(1, keepdims=True) - 1
            mean = (weight_PG.sum(1, keepdims=True) - weight_PG) / jnp.maximum(others_PG, 1)
        return jnp.where(used_PG, weight_PG - mean, 0.0)


def reject_single(group_size: int, baseline: Baseline, normalize: Normalize) -> str | None:
    """Return why one completion a prompt leaves no advantage, or None if it does or there are more."""
    if group_size > 1 or (baseline == "batch" and normalize != "prompt"):
        return None
    return (
        f"a per-prompt baseline ({baseline!r}, normalize {normalize!r}) leaves no advantage with one completion a"
        " prompt; set algorithm.baseline=batch and algorithm.normalize=batch, or a group_size of 2 or more"
    )


def clipped_weight(log_weight: jax.Array, mask: jax.Array, weight_clip: float) -> jax.Array:
    """Return min(exp(log_weight), weight_clip), detached, and 0 where the mask is False."""
    clipped = jnp.exp(jnp.minimum(log_weight, jnp.log(jnp.asarray(weight_clip, log_weight.dtype))))
    return jax.lax.stop_gradient(jnp.where(mask, clipped, 0.0))


def effective_sample_size(weight: jax.Array) -> jax.Array:
    """Return (sum w)^2 / sum w^2, in samples; 0 if all weights are 0."""
    square = (weight**2).sum()
    return jnp.where(square > 0, weight.sum() ** 2 / jnp.where(square > 0, square, 1.0), 0.0)
