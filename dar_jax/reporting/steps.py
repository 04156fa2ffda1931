"""One step in words: its log rows, its line on the screen, what deserves a warning."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dar_jax.console import Sample
from dar_jax.records import Completion, Verdict

Columns = Mapping[str, Any]

_SHOWN = {
    "loss": ("loss", "{:.3f}"),
    "rewards/mean": ("reward", "{:.3f}"),
    "objective/kl": ("kl_ref", "{:.3f}"),
    "kl/sampling_k3": ("kl_step", "{:.4f}"),
    "dar/clip_fraction": ("clipped", "{:.0%}"),
    "completions/mean_length": ("length", "{:.1f}"),
    "completions/clipped_ratio": ("no_eos", "{:.0%}"),
    "judge/failed": ("judge_failed", "{:.0f}"),
    "judge/slowed_to_per_minute": ("judge_slowed", "{:.0f}/min"),
    "judge/cost_usd": ("usd", "{:.4f}"),
    "seconds/step": ("s", "{:.1f}"),
}


def completion_rows(
    step: int, completions: Sequence[Completion], verdicts: Sequence[Verdict], columns: Columns
) -> list[dict[str, Any]]:
    """Make the rows of completions.jsonl: what was said, what was judged, what became of it.

    `columns` are the algorithm's, a number a row each.
    """
    return [
        {
            "step": step,
            "prompt_id": completion.prompt.id,
            "sample": completion.sample,
            "prompt": completion.prompt.text,
            "completion": completion.text,
            "tokens": completion.token_count,
            "ended": completion.ended,
            "verdict": verdict.status,
            "reason": verdict.reason,
            "provenance": verdict.provenance,
            "reward": verdict.reward,
            **{name: float(column[row]) for name, column in columns.items()},
        }
        for row, (completion, verdict) in enumerate(zip(completions, verdicts, strict=True))
    ]


def judge_metrics(
    verdicts: Sequence[Verdict], beside: Sequence[Verdict] = (), paces: Sequence[float] = ()
) -> dict[str, float]:
    """Count what the judge gave: ok and failures by kind, billed calls, tokens, dollars where all are known.

    The `judge/billed_*` figures are of this step, of what was judged `beside` it too, and 0 where the ledger answered.
    `paces` are the requests a minute that servers' 429s have taught each host, 0 where none has; the slowest is shown.
    """
    slowest = min(filter(None, paces), default=None)
    failures = Counter(verdict.status for verdict in verdicts if verdict.status != "ok")
    billed = [verdict for verdict in (*verdicts, *beside) if not verdict.from_ledger]
    costs = [verdict.cost_usd for verdict in billed]
    known = {"judge/cost_usd": sum(c for c in costs if c is not None)} if None not in costs else {}
    masses = [v.distribution.mass for v in verdicts if v.distribution]
    agreed = [verdict.consistency for verdict in verdicts if verdict.consistency is not None]
    gaps = [verdict.gap for verdict in verdicts if verdict.gap is not None]
    return {
        "judge/ok": len(verdicts) - failures.total(),
        "judge/failed": failures.total(),
        **{f"judge/failed_{status}": count for status, count in sorted(failures.items())},
        **({"judge/mass_mean": sum(masses) / len(masses)} if masses else {}),
        **({"judge/consistency": sum(agreed) / len(agreed)} if agreed else {}),
        **({"judge/gap": sum(gaps) / len(gaps)} if gaps else {}),
        "judge/billed_calls": sum(verdict.calls for verdict in billed),
        "judge/billed_input_tokens": sum(verdict.usage.input_tokens for verdict in billed),
        "judge/billed_output_tokens": sum(verdict.usage.output_tokens for verdict in billed),
        "judge/from_ledger": sum(verdict.from_ledger for verdict in verdicts),
        **({"judge/slowed_to_per_minute": slowest} if slowest else {}),
        **known,
    }


def spent_metrics(annotations: int, usd: float | None) -> dict[str, float]:
    """Name what the whole run has paid its judge: answers, and US dollars where the price is known."""
    return {"judge/spent_annotations": annotations} | ({} if usd is None else {"judge/spent_usd": usd})


def averaged(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average the updates' metrics; the KL to pi_t is the last update's, when it has drifted furthest."""
    means = {key: sum(each[key] for each in updates) / len(updates) for key in updates[0]}
    drift = "kl/sampling_k3"
    return means | ({drift: updates[-1][drift]} if drift in means else {})


def speed(seconds: Mapping[str, float], measured: Mapping[str, float], rows: int) -> dict[str, float]:
    """Name the seconds of each phase, and the completion tokens a second of the step and of its sampling."""
    found = {f"seconds/{phase}": value for phase, value in seconds.items()}
    tokens = measured.get("completions/mean_length", 0.0) * rows
    found["throughput/completion_tokens_per_s"] = tokens / seconds["step"]
    if seconds.get("sample"):
        found["throughput/sampled_tokens_per_s"] = tokens / seconds["sample"]
    return found


def shown(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Pick the few metrics that belong on a step's line, formatted."""
    hidden = {key for key in ("judge/failed", "judge/cost_usd") if not metrics.get(key)}
    return {
        label: form.format(metrics[key])
        for key, (label, form) in _SHOWN.items()
        if metrics.get(key) is not None and key not in hidden
    }


def warnings(metrics: Mapping[str, Any]) -> list[str]:
    """Say what a person should know of a step before the next ten."""
    found = []
    if metrics.get("rewards/valid_fraction") and metrics.get("rewards/within_group_std") == 0:
        found.append(
            "the judge gave all completions of each prompt the same reward: there is nothing to learn from;"
            " use a judge mode with finer answers (judge.mode=logprobs or samples) or another judge"
        )
    if metrics.get("completions/clipped_ratio", 0) == 1:
        found.append(
            "no completion ended by itself: raise sampling.max_completion_length, or see whether the policy knows"
            " its end token"
        )
    return found


def samples(rows: Sequence[Mapping[str, Any]], count: int) -> list[Sample]:
    """Choose completions to show: of the first prompts, one each."""
    first = [row for row in rows if row["sample"] == 0][:count]
    return [
        Sample(
            prompt=row["prompt"],
            completion=row["completion"],
            reward=row["reward"],
            weight=row["weight"],
        )
        for row in first
    ]


def closing(folder: str, files: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say at the end of a run what it came to, where things are and what to do next."""
    lines = []
    if rows and rows[0].get("rewards/mean") is not None:
        first, last = rows[0], rows[-1]
        lines.append(
            f"reward {first['rewards/mean']:.2f} at step {first['step']}, {last['rewards/mean']:.2f} at step"
            f" {last['step']}; KL to the reference {last['objective/kl']:.2f} nats a completion; length"
            f" {first['completions/mean_length']:.1f} to {last['completions/mean_length']:.1f} tokens"
        )
        costs = [row.get("judge/cost_usd") for row in rows]
        known = [cost for cost in costs if cost is not None]
        dollars = f"{sum(known):.4f} US dollars" if len(known) == len(costs) else "cost not known in full"
        calls, known_before = (sum(row[f"judge/{name}"] for row in rows) for name in ("billed_calls", "from_ledger"))
        lines.append(
            f"judge, over the steps logged: {calls:.0f} billed calls, {dollars}; {known_before:.0f} answers were in the"
            " ledger already"
        )
    return [
        *lines,
        f"everything is in {folder}: {', '.join(files)}",
        f"next: dar-jax export {folder} --output my-policy   (a Hugging Face folder)",
        f"  or: dar-jax train --resume {folder} steps={2 * len(rows)}   (go on)",
    ]
