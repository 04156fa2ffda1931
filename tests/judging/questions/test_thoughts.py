"""What a policy thinks is not judged: on every way to a judge."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dar_jax.data.completions import read_completions
from dar_jax.data.preference_pairs import read_pairs
from dar_jax.judging import PanelJudge, ScriptedJudge
from dar_jax.judging.health import check_failures
from dar_jax.judging.questions.rules import by_rule
from dar_jax.judging.questions.thoughts import answer_text
from dar_jax.judging.terms import Judging
from dar_jax.records import Completion, Verdict
from dar_jax.reporting import completion_rows, judge_metrics, warnings
from tests.judging.sample_questions import Echo, completions, planted

END = "</think>"
HIDE, SHOW, STATED = Judging(), Judging(thoughts="show"), Judging(thought_end=END)


def one(text: str, *, end: str | None = END, opened: bool = False) -> Completion:
    return replace(completions([text])[0], thought_end=end, thought_open=opened)


@pytest.mark.parametrize(
    ("completion", "terms", "judged"),
    [
        (one("<think>\nhm\n</think>\n\nthe answer"), HIDE, "the answer"),
        (one("hm\n</think>\n\nthe answer", opened=True), HIDE, "the answer"),
        (one("<think>a</think>b<think>c</think> d"), HIDE, "d"),
        (one("the answer"), HIDE, "the answer"),
        (one("<think>\nhm"), HIDE, None),
        (one("hm", opened=True), HIDE, None),
        (one("<think>a</think> b <think>c"), HIDE, None),
        (one("<think>hm</think>the answer"), SHOW, "<think>hm</think>the answer"),
        (one("hm", opened=True), SHOW, "hm"),
        (one("a </think> b", end=""), HIDE, "a </think> b"),
        (one("a </think> b", end=""), STATED, "b"),
        (one("a", end=""), STATED, None),
        (one("a </think> b", end=None), STATED, "a </think> b"),
        (one("a ANSWER: b", end=""), Judging(thought_end="ANSWER:"), "b"),
    ],
)
def test_what_is_judged_follows_the_last_mark(completion: Completion, terms: Judging, judged: str | None) -> None:
    assert answer_text(completion, terms) == judged


def judged_by(echo: Echo, group: list[Completion], tmp_path: Path, **settings: Any) -> list[Verdict]:
    from dar_jax.chat.scripted import scorers

    scorers.SCORERS["thoughts-echo"] = echo
    try:
        with ScriptedJudge(scorer="thoughts-echo", **settings).open(tmp_path / "ledger.sqlite") as judge:
            return judge.submit(group).result()
    finally:
        del scorers.SCORERS["thoughts-echo"]


def test_an_unfinished_thought_costs_no_call_and_has_no_reward(tmp_path: Path) -> None:
    echo = Echo()
    group = [one(f"<think>{planted(9)}</think>{planted(2)}"), one(f"<think>{planted(9)}"), one("<think>x</think>\n")]
    answered, unfinished, empty = judged_by(echo, group, tmp_path)
    assert answered.reward == pytest.approx(2.0, abs=0.5)
    assert [completion for _, completion in echo.shown] == [planted(2)]
    assert (unfinished.status, unfinished.reward, unfinished.calls, unfinished.cost_usd) == ("truncated", None, 0, 0.0)
    assert "before </think>" in unfinished.reason
    assert (empty.reward, empty.provenance) == (1.0, "rule")
    check_failures([answered, unfinished, unfinished, unfinished], 0.2, "")  # no fault of the judge's


def test_comparisons_leave_an_unfinished_thought_out(tmp_path: Path) -> None:
    group = [one("<think>"), one(f"<think>{planted(1)}</think>{planted(3)}"), one(planted(2))]
    found = judged_by(Echo(), group, tmp_path, labels="preference", mode="single")
    assert [verdict.status for verdict in found] == ["truncated", "ok", "ok"]
    assert found[1].reward == 1.0
    assert found[2].reward == 0.0


def test_files_and_pairs_are_judged_without_thoughts(tmp_path: Path) -> None:
    file, pairs = tmp_path / "c.jsonl", tmp_path / "p.jsonl"
    file.write_text(json.dumps({"prompt": "p", "completion": "<think>hm</think> yes"}) + "\n")
    pairs.write_text(json.dumps({"prompt": "p", "chosen": "<think>hm</think> yes", "rejected": "<think>no"}) + "\n")
    ((row, completion),) = read_completions(file)
    assert row["completion"] == completion.text == "<think>hm</think> yes"
    assert answer_text(completion, HIDE) == "yes"
    (pair,) = read_pairs(str(pairs))
    assert [answer_text(each, HIDE) for each in (pair.chosen, pair.rejected)] == ["yes", None]


def test_the_log_keeps_the_whole_text_and_counts_unfinished_thoughts() -> None:
    group = [one("<think>hm</think> yes"), one("<think>hm"), one("no")]
    unfinished = by_rule(group[1], HIDE)
    assert unfinished is not None
    rows = completion_rows(1, group, [unfinished] * 3, {}, HIDE)
    assert [row["completion"] for row in rows] == [each.text for each in group]
    assert [row.get("judged") for row in rows] == ["yes", None, None]
    metrics = judge_metrics([unfinished] * 3)
    assert metrics["judge/unfinished_thoughts"] == metrics["judge/failed_truncated"] == 3
    assert any("ended within a thought" in line for line in warnings(metrics))


def test_a_panels_judges_see_the_same_text() -> None:
    seen = {"name": "scripted", "scorer": "overlap"}
    with pytest.raises(ValidationError, match="see different texts"):
        PanelJudge(judges=(seen, seen | {"thoughts": "show"}))  # type: ignore[arg-type]
    panel = PanelJudge(judges=(seen, seen | {"max_tokens": 17}))  # type: ignore[arg-type]
    assert (panel.thoughts, panel.thought_end) == ("hide", None)
