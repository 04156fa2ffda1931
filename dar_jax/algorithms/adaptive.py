"""Controllers of DAR's tau and rho, all off by default: the effect of a fixed value depends on the spread of rewards.

clip_fraction   tau at which a given share of the weights is clipped
temperature     tau at which the target is a given KL from the mixture of the two policies (the dual of MPO and V-MPO,
                arXiv 1806.06920 and 1909.12238, with the reference in the mixture)
two_kl          alpha and beta, each raised while its KL is above its target (the controller of arXiv 1909.08593)

The first two solve for tau in every batch; the third keeps alpha and beta from step to step.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from pydantic import Field
from pydantic.dataclasses import dataclass

from dar_jax.batches import masked_mean
from dar_jax.settings.fields import STRICT, Number, Positive, Share

_LOWEST, _HIGHEST, _HALVINGS = 1e-4, 1e4, 60

Coefficients = tuple[jax.Array | float, jax.Array | float]
Memory = Mapping[str, Any]


class Evidence(NamedTuple):
    """Log pi_ref/pi_t and advantage of each completion of a batch, both 0 where `used_PG` is False."""

    log_ratio_PG: jax.Array
    advantage_PG: jax.Array
    used_PG: jax.Array

    def log_weight_PG(self, rho: float, tau: jax.Array) -> jax.Array:
        """Return the log-weights before the clip."""
        return rho * self.log_ratio_PG + self.advantage_PG / tau


class SolvesForTau:
    """A controller that solves for tau in every batch, with rho fixed and no memory."""

    def initial_memory(self, alpha: float, beta: float) -> dict[str, float]:
        """Return an empty memory."""
        return {}

    def updated_memory(self, memory: Memory, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return an empty memory."""
        return {}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClipFraction(SolvesForTau):
    """Use the smallest tau at which at most a share of `target` of the weights is clipped."""

    name: Literal["clip_fraction"] = "clip_fraction"
    target: Share = Field(default=0.2, gt=0, lt=1)

    def coefficients(self, rho: float, weight_clip: float, evidence: Evidence, memory: Memory) -> Coefficients:
        """Return rho and the tau of this batch."""

        def too_many(tau: jax.Array) -> jax.Array:
            clipped_PG = evidence.log_weight_PG(rho, tau) >= jnp.log(weight_clip)
            return masked_mean(clipped_PG.astype(tau.dtype), evidence.used_PG) > self.target

        return rho, _bisect(too_many, evidence.advantage_PG.dtype)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Temperature(SolvesForTau):
    """Use the tau at which KL(q || m) is `kl` nats, with m = pi_ref^rho pi_t^(1-rho) and q = m exp(A / tau).

    Both are distributions over the batch's n samples, so the KL is at most log(n) nats, and 0 if all rewards agree.
    """

    name: Literal["temperature"] = "temperature"
    kl: Positive = 0.5

    def coefficients(self, rho: float, weight_clip: float, evidence: Evidence, memory: Memory) -> Coefficients:
        """Return rho and the tau of this batch."""
        log_mixture_PG = _log_softmax(rho * evidence.log_ratio_PG, evidence.used_PG)

        def too_far(tau: jax.Array) -> jax.Array:
            log_target_PG = _log_softmax(evidence.log_weight_PG(rho, tau), evidence.used_PG)
            target_PG = jnp.where(evidence.used_PG, jnp.exp(log_target_PG), 0.0)
            return (target_PG * (log_target_PG - log_mixture_PG)).sum() > self.kl

        return rho, _bisect(too_far, evidence.advantage_PG.dtype)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TwoKL:
    """Adapt alpha to KL(pi_t || pi_ref), and beta to KL(pi_t || pi_theta) of a step's updates; targets in nats a
    completion. `cap` bounds both factors: targets that cannot be met together would raise or lower them without end.
    """

    name: Literal["two_kl"] = "two_kl"
    reference_kl: Positive = 10.0
    sampling_kl: Positive = 1.0
    gain: Share = Field(default=0.1, gt=0)
    cap: Number = Field(default=100.0, gt=1)

    def initial_memory(self, alpha: float, beta: float) -> dict[str, float]:
        """Return alpha and beta of the first step, and the starts that `cap` is relative to."""
        return {"alpha": alpha, "beta": beta, "alpha_start": alpha, "beta_start": beta}

    def coefficients(self, rho: float, weight_clip: float, evidence: Evidence, memory: Memory) -> Coefficients:
        """Return rho and tau from alpha and beta."""
        tau = memory["alpha"] + memory["beta"]
        return memory["alpha"] / tau, tau

    def updated_memory(self, memory: Memory, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return alpha and beta, each raised if its KL was above its target and lowered if below.

        The change is at most a fifth of `gain`. A coefficient whose KL was not measured, or is NaN, stays.
        """
        measured = {"alpha": metrics.get("objective/kl_k3"), "beta": metrics.get("kl/sampling_k3")}
        wanted = {"alpha": self.reference_kl, "beta": self.sampling_kl}
        moved = {
            name: self._moved(memory, name, kl / wanted[name] - 1)
            for name, kl in measured.items()
            # A step without updates has no KL to pi_t. NaN would pass through min and max, and stay.
            if kl is not None and not math.isnan(kl)
        }
        return {**memory, **moved}

    def _moved(self, memory: Memory, name: str, error: float) -> float:
        start, factor = memory[f"{name}_start"], 1 + self.gain * min(max(error, -0.2), 0.2)
        return min(max(memory[name] * factor, start / self.cap), start * self.cap)


CONTROLLERS = {"clip_fraction": ClipFraction, "temperature": Temperature, "two_kl": TwoKL}


def _log_softmax(value_PG: jax.Array, used_PG: jax.Array) -> jax.Array:
    """Return the log-softmax over the used entries; 0 elsewhere."""
    total = jax.nn.logsumexp(jnp.where(used_PG, value_PG, -jnp.inf))
    return jnp.where(used_PG, value_PG - total, 0.0)


def _bisect(too_low: Callable[[jax.Array], jax.Array], dtype: jnp.dtype) -> jax.Array:
    """Return the smallest value that is not too low, by bisection of its logarithm."""

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) / 2
        below = too_low(jnp.exp(middle))
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    ends = jnp.log(jnp.asarray(_LOWEST, dtype)), jnp.log(jnp.asarray(_HIGHEST, dtype))
    return jnp.exp(jax.lax.fori_loop(0, _HALVINGS, halve, ends)[1])
