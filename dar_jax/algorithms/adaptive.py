"""Controllers of DAR's tau and rho, all off by default: what a fixed value does depends on the spread of rewards.

clip_fraction   tau so that a stated share of the weights is at the clip
temperature     tau so that the step's target lies a stated KL from the mixture of the two policies (the dual of MPO and
                V-MPO, arXiv 1806.06920 and 1909.12238, with the reference in the mixture)
two_kl          alpha and beta, each raised while its KL is above what is wanted (the controller of arXiv 1909.08593)

The first two solve for tau in every batch and carry nothing; the third carries alpha and beta.
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
    """What a batch shows: log pi_ref/pi_t and the advantage of each completion, which of them count."""

    log_ratio_PG: jax.Array
    advantage_PG: jax.Array
    used_PG: jax.Array

    def log_weight_PG(self, rho: float, tau: jax.Array) -> jax.Array:
        """Return the log-weights before the clip."""
        return self.from_reference_PG(rho) + self.advantage_PG / tau

    def from_reference_PG(self, rho: float) -> jax.Array:
        """Return the reference's part of them."""
        return jnp.where(self.used_PG, rho * self.log_ratio_PG, 0.0)


class SolvesForTau:
    """A controller that finds tau anew in every batch, rho fixed, and carries nothing."""

    def begin(self, alpha: float, beta: float) -> dict[str, float]:
        """Carry nothing."""
        return {}

    def learnt(self, memory: Memory, metrics: Mapping[str, float]) -> dict[str, float]:
        """Carry nothing."""
        return {}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClipFraction(SolvesForTau):
    """Take the smallest tau at which no more than `target` of the weights are at the clip."""

    name: Literal["clip_fraction"] = "clip_fraction"
    target: Share = Field(default=0.2, gt=0, lt=1)

    def coefficients(self, rho: float, weight_clip: float, seen: Evidence, memory: Memory) -> Coefficients:
        """Return rho and the tau of this batch."""

        def too_many(tau: jax.Array) -> jax.Array:
            clipped_PG = seen.log_weight_PG(rho, tau) >= jnp.log(weight_clip)
            return masked_mean(clipped_PG.astype(tau.dtype), seen.used_PG) > self.target

        return rho, _bisect(too_many, seen.advantage_PG.dtype)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Temperature(SolvesForTau):
    """Take tau so that KL(q || m) is `kl` nats: m the mixture pi_ref^rho pi_t^(1-rho), q = m exp(A / tau), both of the
    batch's samples. So many samples can show log(samples) nats at most, and a batch whose rewards agree none.
    """

    name: Literal["temperature"] = "temperature"
    kl: Positive = 0.5

    def coefficients(self, rho: float, weight_clip: float, seen: Evidence, memory: Memory) -> Coefficients:
        """Return rho and the tau of this batch."""
        log_mixture_PG = _log_softmax(seen.from_reference_PG(rho), seen.used_PG)

        def too_far(tau: jax.Array) -> jax.Array:
            log_target_PG = _log_softmax(seen.log_weight_PG(rho, tau), seen.used_PG)
            target_PG = jnp.where(seen.used_PG, jnp.exp(log_target_PG), 0.0)
            return (target_PG * (log_target_PG - log_mixture_PG)).sum() > self.kl

        return rho, _bisect(too_far, seen.advantage_PG.dtype)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TwoKL:
    """Steer alpha by KL(pi_t || pi_ref) and beta by KL(pi_t || pi_theta) of a step's updates, each towards its target
    (nats a completion). Two targets that cannot both be met would drive both without end: `cap` bounds their factors.
    """

    name: Literal["two_kl"] = "two_kl"
    reference_kl: Positive = 10.0
    sampling_kl: Positive = 1.0
    gain: Share = Field(default=0.1, gt=0)
    cap: Number = Field(default=100.0, gt=1)

    def begin(self, alpha: float, beta: float) -> dict[str, float]:
        """Return the coefficients that the first step starts from, and what they are held to."""
        return {"alpha": alpha, "beta": beta, "alpha_start": alpha, "beta_start": beta}

    def coefficients(self, rho: float, weight_clip: float, seen: Evidence, memory: Memory) -> Coefficients:
        """Return rho and tau as they have become."""
        tau = memory["alpha"] + memory["beta"]
        return memory["alpha"] / tau, tau

    def learnt(self, memory: Memory, metrics: Mapping[str, float]) -> dict[str, float]:
        """Raise each coefficient whose KL came out above its target, lower it below, by a fifth of the gain at most.

        One whose KL was not measured, or is not a number, stays.
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
    """Return the log-shares of what is used; 0 elsewhere."""
    total = jax.nn.logsumexp(jnp.where(used_PG, value_PG, -jnp.inf))
    return jnp.where(used_PG, value_PG - total, 0.0)


def _bisect(too_low: Callable[[jax.Array], jax.Array], dtype: jnp.dtype) -> jax.Array:
    """Return the smallest value, by halving its logarithm's range, that is not too low."""

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) / 2
        below = too_low(jnp.exp(middle))
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    ends = jnp.log(jnp.asarray(_LOWEST, dtype)), jnp.log(jnp.asarray(_HIGHEST, dtype))
    return jnp.exp(jax.lax.fori_loop(0, _HALVINGS, halve, ends)[1])
