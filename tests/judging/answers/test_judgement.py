"""Rewards by comparison. A scripted scorer plants the true order: exactly the rewards that it implies come back."""

import dataclasses
import itertools
import random
import sqlite3

import pytest

from dar_jax.chat.envelope import unseal
from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.errors import BudgetSpent
from dar_jax.judging import PanelJudge, ScriptedJudge, check_budget
from dar_jax.judging.ledger import readers
from dar_jax.judging.ledger.audit import Audit, logged_of
from dar_jax.judging.ledger.rebuilding import Rebuilding
from dar_jax.judging.ledger.rereading import reread
from dar_jax.judging.money.prices import Price
from dar_jax.judging.questions.preference_question import in_order
from dar_jax.judging.questions.rubrics import OF_TWO, RUBRICS
from dar_jax.judging.section import members
from dar_jax.records import Completion, Prompt
from dar_jax.reporting import judge_metrics
from dar_jax.reporting.steps import completion_rows
from tests.judging.sample_questions import Echo, planted
from tests.wires import WIRES, judge_settings

PRICE = Price(input=1.0, cached=0.5, output=2.0, date="2026-11")


def group(levels, prompt=0, words="Say something planted."):
    asked = Prompt(id=prompt, text=words)
    texts = [level if isinstance(level, str) else planted(level) + str(level) for level in levels]
    return [Completion(prompt=asked, sample=i, text=t, token_count=4, ended=True) for i, t in enumerate(texts)]


def implied(levels):
    """What an exact judge gives: 1 for each lower one, 1/2 for each equal one, over the number of others."""
    others = len(levels) - 1
    return [(sum(o < own for o in levels) + (levels.count(own) - 1) / 2) / others for own in levels]


def verdicts(settings, ledger, completions):
    with settings.open(ledger) as judge:
        return judge.submit(completions).result(), judge.totals


def preference(server, wire="openai", **settings):
    return judge_settings(wire, server, labels="preference", **settings)


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "ledger.sqlite"


class Placed:
    """A model that takes the first shown unless the other is better by more than `least`."""

    def __init__(self, least):
        self.name, self._fair, self._least = "placed", Echo().model, least

    def answer(self, request):
        data, _ = unseal(request.messages[-1].content)
        first, second = (Echo()(data["prompt"], data[f"completion_{place}"]) for place in "12")
        if second - first > self._least:
            return self._fair.answer(request)
        swayed = dataclasses.replace(self._fair, scorer=lambda _, text: float(text == data["completion_1"]))
        return swayed.answer(request)


@pytest.mark.parametrize("orders", ["both", "one"])
@pytest.mark.parametrize("mode", ["logprobs", "single", "samples", "decision"])
@pytest.mark.parametrize("levels", [(3.0, 8.0), (8.0, 3.0), (5.0, 2.0, 9.0, 7.0)])
def test_the_planted_order_comes_back(levels, mode, orders, ledger):
    calls = len(levels) * (len(levels) - 1) // 2 * (2 if orders == "both" else 1)
    with serve(model=Echo().model) as server:
        settings = preference(server, mode=mode, orders=orders)
        found, totals = verdicts(settings, ledger, group(levels))
        again, more = verdicts(settings, ledger, group(levels))
    assert [verdict.reward for verdict in found] == pytest.approx(implied(levels))
    assert [verdict.reward for verdict in again] == [verdict.reward for verdict in found]
    assert (totals.annotations, more.annotations) == (calls, 0)
    assert {verdict.consistency for verdict in found} == ({1.0} if orders == "both" else {None})
    assert {verdict.provenance for verdict in found} == {mode}
    assert all(verdict.from_ledger for verdict in again)


@pytest.mark.parametrize("wire", WIRES)
def test_every_wire_compares(wire, ledger):
    with serve(model=Echo().model) as server:
        found, _ = verdicts(preference(server, wire), ledger, group((2.0, 9.0, 4.0)))
    assert [verdict.reward for verdict in found] == [0.0, 1.0, 0.5]


@pytest.mark.parametrize("orders", ["both", "one"])
def test_no_shuffling_changes_a_reward_or_asks_anything_anew(orders, ledger):
    levels = [2.0, 9.0, 4.0, 4.5]
    texts = dict(zip((each.text for each in group(levels)), implied(levels), strict=True))
    with serve(model=Echo().model) as server:
        settings = preference(server, orders=orders)
        verdicts(settings, ledger, group(levels))
        for seed in range(5):
            shuffled = random.Random(seed).sample(levels, len(levels))
            asked = group(shuffled)
            found, totals = verdicts(settings, ledger, asked)
            assert [verdict.reward for verdict in found] == pytest.approx([texts[each.text] for each in asked])
            assert totals.annotations == 0


@pytest.mark.parametrize("levels", list(itertools.permutations((2.0, 5.0))))
def test_where_the_place_decides_it_is_a_tie(levels, ledger):
    """FastChat#3911: the first-shown wins."""
    with serve(model=Placed(least=9.0)) as server:
        found, _ = verdicts(preference(server), ledger, group(levels))
    assert [verdict.reward for verdict in found] == [0.5, 0.5]
    assert [verdict.consistency for verdict in found] == [0.0, 0.0]
    assert judge_metrics(found)["judge/consistency"] == 0.0


def test_consistency_is_the_share_that_agrees(ledger):
    with serve(model=Placed(least=2.0)) as server:
        found, _ = verdicts(preference(server), ledger, group((2.0, 3.0, 9.0)))
    assert [verdict.reward for verdict in found] == [0.25, 0.25, 1.0]
    assert [verdict.consistency for verdict in found] == [0.5, 0.5, 1.0]
    assert judge_metrics(found)["judge/consistency"] == pytest.approx(2 / 3)


def test_one_order_is_the_contents(ledger):
    """A biased judge asked once: which of the two it favours depends on the texts, not on their places in the group."""
    favoured = set()
    with serve(model=Placed(least=9.0)) as server:
        settings = preference(server, orders="one")
        for level in range(2, 10):
            one, other = group((1.0, float(level)))
            found, _ = verdicts(settings, ledger, [one, other])
            turned, _ = verdicts(settings, ledger, [other, one])
            assert [verdict.reward for verdict in turned] == [verdict.reward for verdict in found][::-1]
            assert sorted(verdict.reward for verdict in found) == [0.0, 1.0]
            favoured.add(found[0].reward)
    assert favoured == {0.0, 1.0}
    assert in_order("p", "a", "b") == in_order("p", "b", "a")


def test_only_completions_of_one_prompt_meet(ledger):
    with serve(model=Echo().model) as server:
        one, other = group((2.0, 9.0), prompt=1), group((9.5, 3.0), prompt=2, words="Another.")
        mixed = [one[0], other[0], one[1], other[1]]
        found, totals = verdicts(preference(server), ledger, mixed)
    assert [verdict.reward for verdict in found] == [0.0, 1.0, 1.0, 0.0]
    assert totals.annotations == 4


def test_what_it_cost_is_counted_once(ledger):
    with serve(model=Echo().model) as server:
        found, totals = verdicts(preference(server, prices=PRICE), ledger, group((2.0, 9.0, 4.0)))
    metrics = judge_metrics(found)
    assert totals.annotations == totals.calls == metrics["judge/billed_calls"] == 6
    assert metrics["judge/billed_input_tokens"] == totals.usage.input_tokens
    assert metrics["judge/cost_usd"] == pytest.approx(totals.cost_usd)


def test_rules_need_no_call(ledger):
    with serve(model=Echo().model) as server:
        found, totals = verdicts(preference(server), ledger, group(("...", planted(3), planted(3), "\n")))
        assert totals.annotations == 0
        assert [verdict.reward for verdict in found] == pytest.approx([1 / 6, 5 / 6, 5 / 6, 1 / 6])
        assert {verdict.provenance for verdict in found} == {"rule"}
        (alone,), _ = verdicts(preference(server), ledger, group((3.0,)))
    assert (alone.status, alone.reward) == ("failed", None)
    assert "no other completion" in alone.reason


def test_one_too_long_meets_nobody(ledger):
    with serve(model=Echo().model) as server:
        settings = preference(server, too_long="refuse", max_completion_chars=60)
        found, totals = verdicts(settings, ledger, group((2.0, "long " * 40 + "words", 9.0)))
        cut, _ = verdicts(preference(server, max_completion_chars=60), ledger, group((2.0, "long " * 40 + "words")))
        bodies = [body["messages"][1]["content"] for body in server.bodies.values()]
    assert [verdict.reward for verdict in found] == [0.0, None, 1.0]
    assert (found[1].status, totals.annotations) == ("failed", 2)
    assert all(verdict.status == "ok" for verdict in cut)
    assert any("characters_cut_from_the_end_of_completion_1" in text for text in bodies)


def test_a_comparison_that_failed_fails_both_and_no_third(ledger):
    levels = (2.0, 9.0, 4.0)
    for seed in range(20):
        with serve(ServerSettings(port=0, faults={"refusal": 0.2}, seed=seed), Echo().model) as server:
            found, _ = verdicts(preference(server), ledger.with_name(f"{seed}.sqlite"), group(levels))
        if sorted(verdict.status for verdict in found) == ["ok", "refused", "refused"]:
            (kept,) = [verdict for verdict in found if verdict.status == "ok"]
            assert kept.reward == implied(levels)[found.index(kept)]
            break
    else:
        pytest.fail("no seed gave one failed comparison")
    assert all(verdict.reward is None for verdict in found if verdict is not kept)


@pytest.mark.parametrize("fault", ["refusal", "no_logprobs", "low_mass", "prose", "bad_key"])
def test_a_failed_call_never_becomes_a_tie(fault, ledger):
    """TRL, OAT: a failed comparison was a tie, or the second's win."""
    with serve(ServerSettings(port=0, faults={fault: 1.0})) as server:
        found, _ = verdicts(preference(server), ledger, group((2.0, 9.0)))
    assert [verdict.reward for verdict in found] == [None, None]


def test_the_budget_takes_room_for_every_order(ledger):
    with serve(model=Echo().model) as server:
        with preference(server, budget_annotations=5).open(ledger) as judge:
            found = judge.submit(group((2.0, 9.0, 4.0))).result()
            assert judge.spent.annotations == 5
            with pytest.raises(BudgetSpent):
                check_budget(found, judge.spent, judge.price)
        found, totals = verdicts(preference(server, budget_annotations=6), ledger, group((2.0, 9.0, 4.0)))
    assert ([verdict.reward for verdict in found], totals.annotations) == ([0.0, 1.0, 0.5], 1)


def test_a_panel_a_found_mode_and_notes_compare_too(ledger):
    with serve(model=Echo().model) as server:
        settings = PanelJudge(
            judges=(preference(server, mode="auto"), preference(server, reasoning=True, mode="single"))
        )
        found, totals = verdicts(settings, ledger, group((2.0, 9.0)))
    assert [verdict.reward for verdict in found] == [0.0, 1.0]
    assert [(verdict.gap, verdict.consistency) for verdict in found] == [(0.0, 1.0)] * 2
    assert [verdict.chose_first for verdict in found] == [0.5, 0.5]
    assert found[0].belief < 0.5 < found[1].belief
    assert totals.annotations == 2 + 2 + 4  # the probe, two orders, two orders with notes


@pytest.mark.parametrize("settings", [{}, {"mode": "decision"}, {"reasoning": True}, {"orders": "one"}])
def test_an_audit_compares_again(settings, ledger):
    levels, more = (2.0, 9.0, 4.0), (9.0, 9.5)
    with serve(model=Echo().model) as server:
        judge = preference(server, **settings)
        rows = []
        for step, asked in enumerate((group(levels), group(more))):
            found, _ = verdicts(judge, ledger, asked)
            rows += completion_rows(step, asked, found, {})
    rebuilding = Rebuilding(members(judge))
    assert Audit(readers.find(ledger), 0.5, logged_of(rows, rebuilding)).findings() == []
    rows[3]["reward"] = 0.5
    (line,) = Audit(readers.find(ledger), 0.5, logged_of(rows, rebuilding)).findings()
    assert "with another reward" in line
    assert "step 1, prompt_id 0, sample 0" in line
    rewards = {verdict.reward for row in readers.LedgerFile(ledger).rows() if (verdict := reread(row, 0.5))}
    assert rewards <= {0.0, 1.0}
    with sqlite3.connect(ledger) as database:
        database.execute("DELETE FROM checksums")
        database.execute("DELETE FROM answers WHERE rowid = (SELECT max(rowid) FROM answers)")
    database.close()
    (line,) = Audit(readers.find(ledger), 0.5, logged_of(rows, Rebuilding(members(judge)))).findings()
    assert "2 completions with a reward in completions.jsonl and no answer in the ledger" in line


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"orders": "one"}, "orders is of comparisons"),
        ({"labels": "preference", "criteria": ({"name": "a", "instructions": "x"},)}, "criteria grade a completion"),
        ({"labels": "preference", "mode": "decision", "permutations": 2}, "permutations grade a completion"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        ScriptedJudge(**settings)
    with pytest.raises(ValueError, match="all the same labels"):
        PanelJudge(judges=(ScriptedJudge(), ScriptedJudge(labels="preference")))


def test_every_rubric_has_both_forms(ledger):
    assert OF_TWO.keys() == RUBRICS.keys()
    assert all(" two " in text for text in OF_TWO.values())
    with serve(model=Echo().model) as server:
        for name in OF_TWO:
            verdicts(preference(server, rubric=name, orders="one"), ledger, group((2.0, 9.0)))
        verdicts(preference(server, rubric_text="I like {short} ones.", orders="one"), ledger, group((2.0, 9.0)))
        systems = [body["messages"][0]["content"] for body in server.bodies.values()]
    assert len(set(systems)) == 6
    assert "graded so:\n\nI like {short} ones." in systems[-1]


def test_describe_says_that_it_compares(ledger):
    with ScriptedJudge(labels="preference").open(ledger) as judge:
        assert judge.describe().endswith("rubric general, preference in both orders")
