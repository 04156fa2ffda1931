import pytest

from dar_jax.records import Completion, Distribution, Prompt, Usage, Verdict
from dar_jax.reporting import averaged, closing, completion_rows, judge_metrics, shown, speed, spent_metrics, warnings

OK = Verdict(
    status="ok",
    distribution=Distribution(levels=(1.0, 2.0), probabilities=(0.5, 0.5), mass=0.8),
    usage=Usage(input_tokens=10, output_tokens=1),
    calls=2,
    cost_usd=0.25,
)
REFUSED = Verdict(status="refused", reason="no", calls=1, cost_usd=0.5)
REPEATED = Verdict(status="ok", distribution=OK.distribution, from_ledger=True, cost_usd=0.0)


def test_judge_metrics_count_what_was_billed_and_what_failed():
    metrics = judge_metrics([OK, REFUSED, REPEATED])
    assert metrics["judge/ok"] == 2
    assert metrics["judge/failed"] == metrics["judge/failed_refused"] == 1
    assert metrics["judge/billed_calls"] == 3
    assert metrics["judge/billed_input_tokens"] == 10
    assert metrics["judge/from_ledger"] == 1
    assert metrics["judge/cost_usd"] == 0.75
    assert metrics["judge/mass_mean"] == pytest.approx(0.8)


def test_an_unknown_price_is_no_price():
    """Trap: an unknown model does not cost 0 dollars."""
    unknown = Verdict(status="refused", reason="no", calls=1, cost_usd=None)
    assert "judge/cost_usd" not in judge_metrics([OK, unknown])
    assert spent_metrics(3, None) == {"judge/spent_annotations": 3}
    assert spent_metrics(3, 0.5) == {"judge/spent_annotations": 3, "judge/spent_usd": 0.5}


def test_the_slowest_host_s_pace_is_told_where_one_was_slowed():
    slowed = judge_metrics([OK], paces=[0.0, 120.0, 90.0])
    assert slowed["judge/slowed_to_per_minute"] == 90.0
    assert shown(slowed)["judge_slowed"] == "90/min"
    assert "judge/slowed_to_per_minute" not in judge_metrics([OK], paces=[0.0, 0.0])


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
    assert averaged(updates) == {"loss": 2.0, "kl/sampling_k3": 0.5}


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


def test_closing_words_never_turn_an_unknown_cost_into_a_number():
    row = {
        "step": 1,
        "rewards/mean": 2.0,
        "objective/kl": 0.0,
        "completions/mean_length": 3.0,
        "judge/billed_calls": 4,
        "judge/from_ledger": 1,
    }
    assert any("cost not known in full" in line for line in closing("runs/x", ["metrics.jsonl"], [row]))
    assert any("0.5000 US dollars" in line for line in closing("runs/x", [], [row | {"judge/cost_usd": 0.5}]))
