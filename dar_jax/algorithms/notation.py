"""The two notations of the two KL terms: one pair of settings or the other, never both.

alpha_ratio, total_regularization     rho and tau, what this package computes with
kl_ref_coef, kl_sampling_coef         the 2025 paper's alpha and beta: tau = alpha + beta, rho = alpha / tau
"""

from typing import Any

from pydantic import model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from dar_jax.settings.fields import STRICT, Positive, Share

_PAIR = frozenset({"alpha_ratio", "total_regularization"})
_RAW = frozenset({"kl_ref_coef", "kl_sampling_coef"})


def one_notation(given: Any) -> dict[str, Any]:
    """Return the settings with rho and tau in place of alpha and beta. Raises ValueError for a mixture."""
    settings = dict(given.kwargs or {}) if isinstance(given, ArgsKwargs) else dict(given)
    raw, pair = _RAW & settings.keys(), _PAIR & settings.keys()
    if raw and pair:
        raise ValueError(
            f"both KL notations given ({', '.join(sorted(raw | pair))}): keep alpha_ratio and"
            " total_regularization, or kl_ref_coef and kl_sampling_coef"
        )
    if not raw:
        return settings
    if len(raw) == 1:
        raise ValueError(f"{min(raw)} alone: give kl_ref_coef and kl_sampling_coef")
    alpha, beta = _coefficient(settings, "kl_ref_coef"), _coefficient(settings, "kl_sampling_coef")
    if alpha + beta <= 0:
        raise ValueError("kl_ref_coef + kl_sampling_coef must be above 0")
    return settings | {"total_regularization": alpha + beta, "alpha_ratio": alpha / (alpha + beta)}


def _coefficient(settings: dict[str, Any], key: str) -> float:
    value = settings.pop(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{key} is {value!r}, expected a number of 0 or more")
    return float(value)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RhoAndTau:
    """rho and tau at the paper's values, in either notation."""

    alpha_ratio: Share = 0.1
    total_regularization: Positive = 0.05

    @model_validator(mode="before")
    @classmethod
    def _one_notation(cls, given: Any) -> Any:
        return one_notation(given)
