"""One step in words: its log rows, its line on the screen, what deserves a warning."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from dar_jax.judging.money.prices import amount
from dar_jax.judging.questions.thoughts import Thinking, answer_text
from dar_jax.records import Completion, Verdict
from dar_jax.terminal.console import Sample

Columns = Mapping[str, Any]
_UPDATES = "optimizer/updates"

_SHOWN: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "loss": ("loss", "{:.3f}".format),
    "rewards/mean": ("reward", "{:.3f}".format),
    "objective/kl": ("kl_ref", "{:.3f}".format),
    "kl/sampling_k3": ("kl_step", "{:.4f}".format),
    "dar/clip_fraction": ("w_clipped", "{:.0%}".format),
    "completions/mean_length": ("length", "{:.1f}".format),
    "completions/clipped_ratio": ("truncated", "{:.0%}".format),
    "judge/failed": ("judge_failed", "{:.0f}".format),
    "judge/slowed_to_per_minute": ("judge_slowed", "{:.0f}/min".format),
    "judge/cost_usd": ("usd", amount),
    "seconds/step": ("s", "{:.1f}".format),
}


def completion_rows(
    step: int,
    completions: Sequence[Completion],
    verdicts: Sequence[Verdict],
    columns: Columns,
    terms: Thinking | None = None,
) -> list[dict[str, Any]]:
    """Return the rows of completions.jsonl: the whole text, and beside it the part that was `judged` where the judge's
    `terms` hide a thought.

    `columns` are the algorithm's, a number a row each.
    """
    return [
        {
            "step": step,
            "prompt_id": completion.prompt.id,
            "sample": completion.sample,
            "prompt": completion.prompt.text,
            "completion": completion.text,
            **_judged(completion, terms),
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


def _judged(completion: Completion, terms: Thinking | None) -> dict[str, str]:
    answer = completion.text if terms is None else answer_text(completion, terms)
    return {} if answer is None or answer == completion.text else {"judged": answer}


def averaged(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average the updates' metrics; the KL to pi_t is the last update's, when it has drifted furthest.

    Of a step without updates there is only their number, 0.
    """
    means = {key: sum(each[key] for each in updates) / len(updates) for key in (updates[0] if updates else ())}
    drift = "kl/sampling_k3"
    return means | ({drift: updates[-1][drift]} if drift in means else {}) | {_UPDATES: float(len(updates))}


def speed(seconds: Mapping[str, float], measured: Mapping[str, float], rows: int) -> dict[str, float]:
    """Return the seconds of each phase, and completion tokens a second of the step and of sampling."""
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
        label: form(metrics[key])
        for key, (label, form) in _SHOWN.items()
        if _known(metrics.get(key)) and key not in hidden
    }


def _known(value: float | None) -> bool:
    """Return whether a figure was measured: NaN stands for none in a step, null in the log."""
    return value is not None and not math.isnan(value)


def warnings(metrics: Mapping[str, Any], modes: Collection[str] = ()) -> list[str]:
    """Return what a person should know of a step before the next ten; `modes` are those the judge is asked in."""
    found = []
    skipped = "; no update was made" * (metrics.get(_UPDATES) == 0)
    if metrics.get("rewards/valid_fraction") == 0:
        found.append(f"no completion was scored: there is nothing to learn from{skipped}; see judge/failed_*")
    elif metrics.get("rewards/within_group_std") == 0:
        finer = "use a judge mode with finer answers (judge.mode=logprobs or samples) or another judge"
        other = "its answers are fine enough; use a rubric that tells more apart, or another judge"
        found.append(
            "the judge gave all completions of each prompt the same reward: there is nothing to learn from"
            f"{skipped}; {finer if 'single' in modes or not modes else other}"
        )
    thinking, judged = metrics.get("judge/unfinished_thoughts", 0), metrics.get("judge/ok", 0)
    if thinking > judged:
        found.append(
            f"{thinking:.0f} completions ended within a thought, {judged:.0f} were judged: raise"
            " sampling.max_completion_length, or have the policy think less (tokenizer.template_arguments)"
        )
    if metrics.get("completions/clipped_ratio", 0) == 1:
        found.append(
            "no completion ended by itself: raise sampling.max_completion_length, or see whether the policy knows"
            " its end token"
        )
    if estimated := metrics.get("judge/usage_estimated"):
        found.append(
            f"the server did not report the usage of {estimated:.0f} answers: their tokens and dollars are estimated"
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


def closing(
    folder: str, files: Sequence[str], rows: Sequence[Mapping[str, Any]], costs: Sequence[str] = ()
) -> list[str]:
    """Return the lines at the end of a run: what it came to, what it `costs`, where things are, what to do next."""
    lines = []
    if rows and "rewards/mean" in rows[0]:
        first, last = rows[0], rows[-1]
        lines.append(
            f"reward {_of(first, 'rewards/mean', 2)} at step {first['step']}, {_of(last, 'rewards/mean', 2)} at step"
            f" {last['step']}; KL to the reference {_of(last, 'objective/kl', 2)} nats a completion; length"
            f" {_of(first, 'completions/mean_length', 1)} to {_of(last, 'completions/mean_length', 1)} tokens"
        )
    return [
        *lines,
        *costs,
        f"everything is in {folder}: {', '.join(files)}",
        f"next: dar-jax export {folder} --output my-policy   (a Hugging Face folder)",
        f"  or: dar-jax train --resume {folder} steps={2 * len(rows)}   (go on)",
    ]


def _of(row: Mapping[str, Any], key: str, decimals: int) -> str:
    value = row.get(key)
    return f"{value:.{decimals}f}" if value is not None and _known(value) else "none"
