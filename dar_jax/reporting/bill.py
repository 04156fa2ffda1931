"""What a run's judge has cost: the metrics of a step, and the lines about the run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dar_jax.judging.money.prices import amount, dollars, each_reward
from dar_jax.judging.questions.thoughts import is_unfinished
from dar_jax.records import Verdict

Metrics = Mapping[str, Any]


def judge_metrics(verdicts: Sequence[Verdict], beside: Sequence[Verdict] = ()) -> dict[str, float]:
    """Compute a step's judge metrics: rewards, failures by kind, answers billed, requests, tokens, dollars.

    Dollars are absent where a cost is unknown. The `judge/billed_*` figures and `judge/requests` are of this step, of
    what was judged `beside` it too; a request that the server turned away is no answer billed.
    """
    failures = Counter(verdict.status for verdict in verdicts if verdict.status != "ok")
    rewards, unfinished = len(verdicts) - failures.total(), sum(map(is_unfinished, verdicts))
    masses = [v.distribution.mass for v in verdicts if v.distribution]
    agreed = [verdict.consistency for verdict in verdicts if verdict.consistency is not None]
    gaps = [verdict.gap for verdict in verdicts if verdict.gap is not None]
    return {
        "judge/ok": rewards,
        "judge/failed": failures.total(),
        **{f"judge/failed_{status}": count for status, count in sorted(failures.items())},
        **({"judge/unfinished_thoughts": unfinished} if unfinished else {}),
        **({"judge/level_probability": sum(masses) / len(masses)} if masses else {}),
        **({"judge/consistency": sum(agreed) / len(agreed)} if agreed else {}),
        **({"judge/panel_spread": sum(gaps) / len(gaps)} if gaps else {}),
        "judge/from_ledger": sum(verdict.from_ledger for verdict in verdicts),
        **_billed([*verdicts, *beside], rewards),
    }


def _billed(verdicts: Sequence[Verdict], rewards: int) -> dict[str, float]:
    costs = [verdict.cost_usd for verdict in verdicts if not verdict.from_ledger]
    found: dict[str, float] = {
        "judge/billed_calls": sum(verdict.annotations for verdict in verdicts),
        "judge/requests": sum(verdict.calls for verdict in verdicts),
        "judge/billed_input_tokens": sum(verdict.usage.input_tokens for verdict in verdicts),
        "judge/billed_output_tokens": sum(verdict.usage.output_tokens for verdict in verdicts),
    }
    if estimated := sum(verdict.estimated for verdict in verdicts):
        found["judge/usage_estimated"] = estimated
    if None not in costs:
        found["judge/cost_usd"] = cost = sum(each for each in costs if each is not None)
        found |= {"judge/usd_per_reward": cost / rewards} if rewards else {}
    return found


def spent_metrics(annotations: int, usd: float | None) -> dict[str, float]:
    """Return what the whole run has paid its judge: answers, and US dollars where the price is known."""
    return {"judge/spent_annotations": annotations} | ({} if usd is None else {"judge/spent_usd": usd})


def judge_total(rows: Sequence[Metrics], spent: Metrics, *, shared: bool) -> str:
    """Return the line about what a run has `spent` on its judge, by its ledger; `rows` are those of metrics.jsonl.

    Of a ledger that other runs share, the run's own part is that of the steps logged.
    """
    rewards, free, billed = (sum(row.get(f"judge/{name}") or 0 for row in rows) for name in ("ok", *_COUNTED))
    costs = [row.get("judge/cost_usd") for row in rows]
    logged = None if None in costs else sum(cost for cost in costs if cost is not None)
    bought, usd = spent["judge/spent_annotations"], spent.get("judge/spent_usd")
    line = f"judge: {bought:,.0f} answers billed in all, {dollars(usd)}{each_reward(usd, rewards)}"
    if shared:
        own = f"{billed:,.0f} of them by this run's steps, {dollars(logged)}{each_reward(logged, rewards)}"
        line = f"judge: the shared ledger holds {bought:,.0f} answers, {dollars(usd)}; {own}"
    return f"{line}; {free:,.0f} verdicts cost nothing: repeats, and answers bought before"


def evaluator_total(spent: Metrics) -> str:
    """Return the line about what was spent on a judge of evaluations alone."""
    return f"judge of the evaluations: {spent['judge/spent_annotations']:,.0f} answers billed in all, " + dollars(
        spent.get("judge/spent_usd")
    )


_COUNTED = ("from_ledger", "billed_calls")


def rest_by_first_answers(metrics: Metrics, calls: int, steps: int) -> str | None:
    """Return the line that corrects a run's estimate by the first answers billed; None while there are none, or where
    they are free. `calls` is how many may be asked in the `steps` that are left.
    """
    billed, cost = metrics.get("judge/billed_calls"), metrics.get("judge/cost_usd")
    if not billed or cost == 0 or not steps:
        return None
    tokens = (metrics[f"judge/billed_{way}_tokens"] / billed for way in ("input", "output"))
    each = " and ".join(f"{count:,.0f} tokens {way}" for count, way in zip(tokens, ("in", "out"), strict=True))
    rest = "cost unknown" if cost is None else f"about {amount(cost / billed * calls)} US dollars"
    return f"judge, by the first {billed:,.0f} answers: {each} a question; {rest} for the {steps:,} steps left"
