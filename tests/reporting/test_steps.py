from dataclasses import replace

import pytest

from dar_jax.chat.limits import Waits
from dar_jax.records import Completion, Distribution, Prompt, Usage, Verdict
from dar_jax.reporting import (
    averaged,
    closing,
    completion_rows,
    evaluator_total,
    judge_metrics,
    judge_total,
    rest_by_first_answers,
    shown,
    speed,
    spent_metrics,
    warnings,
)

OK = Verdict(
    status="ok",
    distribution=Distribution(levels=(1.0, 2.0), probabilities=(0.5, 0.5), mass=0.8),
    usage=Usage(input_tokens=10, output_tokens=1),
    annotations=1,
    calls=2,
    cost_usd=0.25,
)
REFUSED = Verdict(status="refused", reason="no", annotations=1, calls=1, cost_usd=0.5)
REPEATED = Verdict(status="ok", distribution=OK.distribution, from_ledger=True, cost_usd=0.0)


def test_judge_metrics_count_what_was_billed_and_what_failed():
    metrics = judge_metrics([OK, REFUSED, REPEATED])
    assert metrics["judge/ok"] == 2
    assert metrics["judge/failed"] == metrics["judge/failed_refused"] == 1
    assert metrics["judge/billed_calls"] == 2
    assert metrics["judge/requests"] == 3
    assert metrics["judge/usd_per_reward"] == 0.375
    assert metrics["judge/billed_input_tokens"] == 10
    assert metrics["judge/from_ledger"] == 1
    assert metrics["judge/cost_usd"] == 0.75
    assert metrics["judge/level_probability"] == pytest.approx(0.8)


def test_an_unknown_price_is_no_price():
    """Trap: an unknown model does not cost 0 dollars."""
    unknown = Verdict(status="refused", reason="no", calls=1, cost_usd=None)
    assert "judge/cost_usd" not in judge_metrics([OK, unknown])
    assert spent_metrics(3, None) == {"judge/spent_annotations": 3}
    assert spent_metrics(3, 0.5) == {"judge/spent_annotations": 3, "judge/spent_usd": 0.5}


def test_the_slowest_host_s_pace_is_told_where_one_was_slowed():
    hosts = [Waits(), Waits(slowed_to_per_minute=120.0), Waits(slowed_to_per_minute=90.0)]
    slowed = judge_metrics([OK]) | sum(hosts, Waits()).metrics()
    assert slowed["judge/slowed_to_per_minute"] == 90.0
    assert shown(slowed)["judge_slowed"] == "90/min"
    assert "judge/slowed_to_per_minute" not in Waits().metrics()


def test_the_waits_of_all_hosts_are_one_distribution():
    fast = Waits(latencies=(0.1,) * 18, retries=1, connect_wait_s=0.5)
    slow = Waits(latencies=(2.0, 3.0), retries=2, connect_wait_s=0.1)
    assert (fast + slow).metrics() == {
        "judge/retries": 3,
        "judge/latency_p50_s": 0.1,
        "judge/latency_p95_s": 2.0,
        "judge/connect_wait_s": 0.5,
    }
    assert Waits().metrics() == {"judge/retries": 0}


def test_a_failed_judgement_is_logged_without_a_reward():
    completion = Completion(prompt=Prompt(id=3, text="p"), sample=0, text="c", token_count=2, ended=True)
    rows = completion_rows(5, [completion, completion], [OK, REFUSED], {"weight": [1.5, 0.0]})
    assert [(row["reward"], row["weight"], row["verdict"]) for row in rows] == [
        (1.5, 1.5, "ok"),
        (None, 0.0, "refused"),
    ]
    assert rows[1]["reason"] == "no"
    assert rows[0]["step"] == 5


def test_updates_are_averaged_but_drift_is_the_last():
    updates = [{"loss": 1.0, "kl/sampling_k3": 0.0}, {"loss": 3.0, "kl/sampling_k3": 0.5}]
    assert averaged(updates) == {"loss": 2.0, "kl/sampling_k3": 0.5, "optimizer/updates": 2}


def test_speed_counts_completion_tokens():
    found = speed({"step": 4.0, "sample": 2.0}, {"completions/mean_length": 10.0}, rows=8)
    assert found["throughput/completion_tokens_per_s"] == 20
    assert found["throughput/sampled_tokens_per_s"] == 40


def test_the_line_shows_failures_only_where_there_are_some():
    assert shown({"loss": 1.0, "judge/failed": 0}) == {"loss": "1.000"}
    assert shown({"loss": 1.0, "judge/failed": 2})["judge_failed"] == "2"


def test_warnings_name_the_way_out():
    (same,) = warnings({"rewards/valid_fraction": 1.0, "rewards/within_group_std": 0.0})
    assert "judge.mode" in same
    (endless,) = warnings({"completions/clipped_ratio": 1.0})
    assert "max_completion_length" in endless


def test_requests_that_were_turned_away_are_no_answers_billed():
    """After 429s: 32 answers of 64 requests."""
    turned_away = Verdict(status="failed", reason="HTTP 429", calls=6, cost_usd=0.0)
    metrics = judge_metrics([replace(OK, calls=2)] * 32 + [turned_away])
    assert (metrics["judge/billed_calls"], metrics["judge/requests"]) == (32, 70)
    assert metrics["judge/cost_usd"] == 8.0


def test_a_judge_of_fine_answers_is_not_told_to_use_them():
    same = {"rewards/valid_fraction": 1.0, "rewards/within_group_std": 0.0}
    (fine,) = warnings(same, {"logprobs"})
    assert "judge.mode" not in fine
    assert "another judge" in fine
    (coarse,) = warnings(same, {"single"})
    assert "judge.mode=logprobs" in coarse


def row(step, **judge):
    found = {"ok": 4, "from_ledger": 1, "billed_calls": 3, "cost_usd": 0.25} | judge
    means = {"rewards/mean": 2.0, "objective/kl": 0.0, "completions/mean_length": 3.0}
    return {"step": step, **means, **{f"judge/{name}": value for name, value in found.items()}}


def test_the_total_is_the_ledgers_not_that_of_the_steps_logged():
    """A step that was stopped and done again has bought answers that no logged step shows."""
    spent = spent_metrics(63, 0.8)
    told = judge_total([row(1), row(2)], spent, shared=False)
    assert told == (
        "judge: 63 answers billed in all, 0.8000 US dollars, 0.1000 a reward;"
        " 2 verdicts cost nothing: repeats, and answers bought before"
    )
    shared = judge_total([row(1), row(2)], spent, shared=True)
    assert "the shared ledger holds 63 answers, 0.8000 US dollars; 6 of them by this run's steps" in shared
    assert "0.5000 US dollars, 0.06250 a reward" in shared


def test_an_unknown_cost_is_never_turned_into_a_number():
    assert "63 answers billed in all, cost unknown; " in judge_total([row(1)], spent_metrics(63, None), shared=False)
    assert "cost unknown; 1 verdicts" in judge_total([row(1, cost_usd=None)], spent_metrics(9, None), shared=True)
    assert evaluator_total(spent_metrics(9, None)).endswith("9 answers billed in all, cost unknown")


def test_the_estimate_learns_from_the_first_answers():
    first = {"judge/billed_calls": 20, "judge/billed_input_tokens": 30_100, "judge/billed_output_tokens": 20}
    told = rest_by_first_answers(first | {"judge/cost_usd": 0.02}, calls=1000, steps=50)
    assert told == (
        "judge, by the first 20 answers: 1,505 tokens in and 1 tokens out a question;"
        " about 1.0000 US dollars for the 50 steps left"
    )
    assert "cost unknown for the 50 steps" in rest_by_first_answers(first, calls=1000, steps=50)
    assert rest_by_first_answers({"judge/billed_calls": 0}, calls=1000, steps=50) is None
    assert rest_by_first_answers(first | {"judge/cost_usd": 0.0}, calls=1000, steps=50) is None


def test_a_small_cost_is_shown_with_digits_that_are_not_zero():
    assert shown({"judge/cost_usd": 0.00001234}) == {"usd": "0.00001234"}


def test_closing_words_take_what_no_step_has_measured():
    lines = closing("runs/x", ["metrics.jsonl"], [row(1) | {"objective/kl": None}], ["judge: ..."])
    assert "KL to the reference none nats" in lines[0]
    assert lines[1] == "judge: ..."


def test_a_figure_that_was_not_measured_is_not_shown():
    assert shown({"loss": 1.0, "rewards/mean": float("nan")}) == {"loss": "1.000"}


def test_a_share_of_weights_at_the_clip_reads_like_no_length():
    assert shown({"dar/clip_fraction": 0.5, "completions/clipped_ratio": 0.25}) == {
        "w_clipped": "50%",
        "truncated": "25%",
    }


def test_a_step_without_updates_has_no_means():
    assert averaged([]) == {"optimizer/updates": 0}


def test_a_step_of_which_nothing_was_scored_is_not_called_tied():
    (told,) = warnings({"rewards/valid_fraction": 0.0, "optimizer/updates": 0.0})
    assert told.startswith("no completion was scored")
    assert "no update was made" in told
