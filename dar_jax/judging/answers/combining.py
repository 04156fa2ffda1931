"""Combine verdicts: of the questions of a judgement, and of the judges of a panel."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from dar_jax.judging.answers.outcomes import AnswerCosts
from dar_jax.judging.answers.parsing import mixture
from dar_jax.records import Usage, Verdict


def combined(parts: Sequence[Verdict], weights: Sequence[float]) -> Verdict:
    """Return the weighted mean of verdicts with the sum of their costs; if one failed, the whole fails with its reason.

    A judgement that the budget blocked has precedence among failures, as the run stops for it.
    """
    if len(parts) == 1:
        return parts[0]
    failed = [part for part in parts if part.status != "ok"]
    refused = [part for part in failed if part.status == "over_budget"]
    if failed:
        return with_costs((refused or failed)[0], parts)
    found = [part.distribution for part in parts if part.distribution is not None]
    average = mixture(list(zip(found, weights, strict=True)))
    whole = Verdict(
        status="ok",
        distribution=average,
        provenance=names(part.provenance for part in parts),
        served_model=names(part.served_model for part in parts),
    )
    return with_costs(whole, parts)


def panel(parts: Sequence[Verdict]) -> Verdict:
    """Return the mean verdict of a panel's judges; `gap` is the difference of its highest and lowest reward."""
    whole = combined(parts, [1.0] * len(parts))
    if len(parts) == 1 or whole.status != "ok":
        return whole
    rewards = [part.reward for part in parts if part.reward is not None]
    return replace(
        whole,
        gap=max(rewards) - min(rewards),
        consistency=_mean(part.consistency for part in parts),
        chose_first=_mean(part.chose_first for part in parts),
        belief=_mean(part.belief for part in parts),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the known values, None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def with_costs(verdict: Verdict, parts: Sequence[Verdict | AnswerCosts]) -> Verdict:
    """Return a verdict with the sum of its parts' costs."""
    costs = [part.cost_usd for part in parts]
    return replace(
        verdict,
        usage=sum((part.usage for part in parts), Usage()),
        annotations=sum(part.annotations for part in parts),
        calls=sum(part.calls for part in parts),
        estimated=sum(part.estimated for part in parts),
        cost_usd=None if None in costs else sum((cost for cost in costs if cost is not None), 0.0),
        from_ledger=all(part.from_ledger for part in parts),
    )


def names(given: Iterable[str]) -> str:
    """Join names, each once."""
    return ", ".join(dict.fromkeys(filter(None, given)))
