"""Direct Advantage Regression (He et al., arXiv 2504.14177; ICLR 2026, arXiv 2602.11523).

    w(x, y) = min( (pi_ref(y|x) / pi_t(y|x))^rho * exp(A(x, y) / tau), weight_clip )
    L(theta) = - mean w(x, y) log pi_theta(y|x)

with A the per-prompt centred reward, z-scored over the batch. rho is the share of the regularisation given to
the frozen reference, tau the whole of it: in the 2025 paper's letters rho = alpha / (alpha + beta) and
tau = alpha + beta.
"""

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from dar_jax.algorithms.advantages import Baseline, Deviation, Normalize, advantages
from dar_jax.algorithms.measures import (
    completion_metrics,
    reference_kl_metrics,
    reward_metrics,
    sampler_gap_metrics,
)
from dar_jax.algorithms.regression import Metrics, batch_of, weighted_regression
from dar_jax.algorithms.weighting import clipped_weight, effective_sample_size
from dar_jax.batches import Batch, Rewards, Rollouts, masked_mean
from dar_jax.settings import STRICT


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
    return _weigh(
        jnp.asarray(reward_PG),
        jnp.asarray(log_ref_over_sampling_PG),
        None if valid_PG is None else jnp.asarray(valid_PG),
        alpha_ratio=alpha_ratio,
        total_regularization=total_regularization,
        weight_clip=weight_clip,
        normalize=normalize,
        baseline=baseline,
        deviation=deviation,
    )["weight_PG"]


def _weigh(
    reward_PG: jax.Array,
    log_ref_over_sampling_PG: jax.Array,
    valid_PG: jax.Array | None,
    *,
    alpha_ratio: float,
    total_regularization: float,
    weight_clip: float,
    normalize: Normalize,
    baseline: Baseline,
    deviation: Deviation,
) -> dict[str, jax.Array]:
    precision = jnp.promote_types(reward_PG.dtype, jnp.float32)
    if valid_PG is None:
        valid_PG = jnp.ones(reward_PG.shape, bool)
    advantage_PG, used_PG = advantages(
        reward_PG.astype(precision),
        valid_PG,
        baseline=baseline,
        normalize=normalize,
        deviation=deviation,
    )
    from_reference_PG = alpha_ratio * log_ref_over_sampling_PG.astype(precision)
    from_advantage_PG = advantage_PG / total_regularization
    log_weight_PG = jnp.where(used_PG, from_reference_PG + from_advantage_PG, 0.0)
    return {
        "advantage_PG": advantage_PG,
        "used_PG": used_PG,
        "from_reference_PG": jnp.where(used_PG, from_reference_PG, 0.0),
        "from_advantage_PG": from_advantage_PG,
        "log_weight_PG": log_weight_PG,
        "weight_PG": clipped_weight(log_weight_PG, used_PG, weight_clip),
    }


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DAR:
    """The paper's algorithm at the paper's settings.

    `kl_ref_coef` and `kl_sampling_coef` (the 2025 paper's alpha and beta) may be given instead of `alpha_ratio` and
    `total_regularization`; never both. `missing_eos_penalty` (reward units, off) is taken from the reward of a
    completion that was cut off; `length_normalize` (off) divides the log-ratio by the completion's length.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"rewards", "sampling", "reference"})

    name: Literal["dar"] = "dar"
    alpha_ratio: float = Field(default=0.1, ge=0, le=1)
    total_regularization: PositiveFloat = 0.05
    weight_clip: PositiveFloat = 20.0
    baseline: Baseline = "prompt"
    normalize: Normalize = "batch"
    length_normalize: bool = False
    missing_eos_penalty: NonNegativeFloat = 0.0

    @model_validator(mode="before")
    @classmethod
    def _one_notation(cls, given: Any) -> Any:
        settings = dict(given.kwargs or {}) if isinstance(given, ArgsKwargs) else dict(given)
        raw = {"kl_ref_coef", "kl_sampling_coef"} & settings.keys()
        pair = {"alpha_ratio", "total_regularization"} & settings.keys()
        if raw and pair:
            raise ValueError(
                f"both KL notations given ({', '.join(sorted(raw | pair))}): keep alpha_ratio and"
                " total_regularization, or kl_ref_coef and kl_sampling_coef"
            )
        if raw:
            if len(raw) == 1:
                raise ValueError(f"{raw.pop()} alone: give kl_ref_coef and kl_sampling_coef")
            alpha, beta = _coefficient(settings, "kl_ref_coef"), _coefficient(settings, "kl_sampling_coef")
            if alpha + beta <= 0:
                raise ValueError("kl_ref_coef + kl_sampling_coef must be above 0")
            settings |= {"total_regularization": alpha + beta, "alpha_ratio": alpha / (alpha + beta)}
        return settings

    def reject_group_size(self, group_size: int) -> str | None:
        """Say why this group size cannot be learnt from, or None."""
        if group_size == 1 and (self.baseline != "batch" or self.normalize == "prompt"):
            return (
                f"a per-prompt baseline ({self.baseline!r}, normalize {self.normalize!r}) leaves no advantage with one"
                " completion a prompt; set algorithm.baseline=batch and algorithm.normalize=batch, or a group_size of"
                " 2 or more"
            )
        return None

    def weigh(self, rollouts: Rollouts, rewards: Rewards) -> tuple[Batch, dict[str, jax.Array]]:
        """Turn rewards and log-ratios into regression weights, over the whole global batch at once.

        Returns the batch to regress on and a flat dict of metrics (scalars) and `completion/*` columns (PG).
        """
        shape = rewards.reward_PG.shape
        log_ratio_PG = self._log_ref_over_sampling_B(rollouts).reshape(shape)
        ended_PG = rollouts.ended_B.reshape(shape)
        reward_PG = rewards.reward_PG - self.missing_eos_penalty * ~ended_PG
        parts = _weigh(
            reward_PG,
            log_ratio_PG,
            rewards.valid_PG,
            alpha_ratio=self.alpha_ratio,
            total_regularization=self.total_regularization,
            weight_clip=self.weight_clip,
            normalize=self.normalize,
            baseline=self.baseline,
            deviation="population",
        )
        metrics = {
            **reward_metrics(rewards),
            **completion_metrics(rollouts),
            **sampler_gap_metrics(rollouts),
            **reference_kl_metrics(rollouts),
            **self._weight_metrics(parts),
        }
        batch = batch_of(rollouts, parts["weight_PG"].reshape(-1), parts["used_PG"].reshape(-1))
        return batch, metrics | {
            "completion/advantage": parts["advantage_PG"],
            "completion/weight": parts["weight_PG"],
        }

    def regress(self, logprob_ERT: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        """Return the weighted regression loss, summed over examples (see `regression`)."""
        return weighted_regression(logprob_ERT, batch)

    def _log_ref_over_sampling_B(self, rollouts: Rollouts) -> jax.Array:
        assert rollouts.sampling_logprob_BT is not None
        assert rollouts.ref_logprob_BT is not None
        mask_BT = rollouts.mask_completion_BT
        difference_BT = rollouts.ref_logprob_BT - rollouts.sampling_logprob_BT
        total_B = jnp.where(mask_BT, difference_BT, 0.0).sum(1)
        return total_B / jnp.maximum(mask_BT.sum(1), 1) if self.length_normalize else total_B

    def _weight_metrics(self, parts: dict[str, jax.Array]) -> dict[str, jax.Array]:
        used_PG, weight_PG = parts["used_PG"], parts["weight_PG"]
        reference, advantage = (
            masked_mean(jnp.abs(parts[key]), used_PG) for key in ("from_reference_PG", "from_advantage_PG")
        )
        both = reference + advantage
        clipped_PG = parts["log_weight_PG"] >= jnp.log(self.weight_clip)
        size = effective_sample_size(weight_PG)
        return {
            "dar/clip_fraction": masked_mean(clipped_PG.astype(jnp.float32), used_PG),
            "dar/near_zero_fraction": masked_mean((weight_PG < 0.05).astype(jnp.float32), used_PG),
            "dar/weight_mean": masked_mean(weight_PG, used_PG),
            "dar/weight_max": weight_PG.max(),
            "dar/effective_sample_size": size,
            "dar/effective_sample_share": size / jnp.maximum(used_PG.sum(), 1),
            "dar/log_weight_reference": reference,
            "dar/log_weight_advantage": advantage,
            "dar/reference_share": jnp.where(both > 0, reference / jnp.where(both > 0, both, 1), 0),
            "dar/used_fraction": used_PG.mean(dtype=jnp.float32),
            "advantages/abs_max": jnp.abs(parts["advantage_PG"]).max(),
        }


def _coefficient(settings: dict[str, Any], key: str) -> float:
    value = settings.pop(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{key} is {value!r}, expected a number of 0 or more")
    return float(value)
