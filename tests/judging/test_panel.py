import pytest
from pydantic import TypeAdapter

from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.errors import BudgetSpent
from dar_jax.judging import JUDGES, PanelJudge, check_budget
from dar_jax.judging.ledger import readers
from dar_jax.judging.money.prices import Price, Prices
from dar_jax.judging.money.spent import Spent, payee
from dar_jax.records import Usage
from dar_jax.reporting import judge_metrics
from dar_jax.settings.fields import one_of
from tests.judging.sample_questions import Echo, completions, planted
from tests.judging.test_judge import verdicts

ADAPTER = TypeAdapter(one_of(JUDGES))
CHEAP, DEAR = Price(input=1.0, output=2.0, date="2026-11"), Price(input=10.0, output=20.0, date="2026-11")


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "ledger.sqlite"


def panel(*servers, budget_usd=None, budget_annotations=None, prices=(None, None), **settings):
    members = [
        {"name": "openai", "model": f"m-{index}", "base_url": server.openai_url, "prices": price, "attempts": 2}
        | {"deadline_s": 10.0, "attempt_timeout_s": 5.0}
        | settings
        for index, (server, price) in enumerate(zip(servers, prices, strict=True))
    ]
    whole = {"name": "panel", "judges": members, "budget_usd": budget_usd, "budget_annotations": budget_annotations}
    return ADAPTER.validate_python(whole)


class Kind(Echo):
    """An echo that gives two levels more, up to the highest."""

    def __call__(self, prompt, completion):
        return min(10.0, super().__call__(prompt, completion) + 2.0)


@pytest.mark.parametrize("mode", ["logprobs", "decision"])
def test_the_reward_is_the_mean_and_the_gap_is_reported(mode, ledger):
    with serve(model=Echo().model) as first, serve(model=Kind().model) as second:
        settings = panel(first, second, mode=mode)
        found, totals = verdicts(settings, ledger, [planted(3), planted(9)])
        again, more = verdicts(settings, ledger, [planted(3), planted(9)])
    assert [verdict.reward for verdict in found] == pytest.approx([4.0, 9.5])
    assert [verdict.gap for verdict in found] == pytest.approx([2.0, 1.0])
    assert [verdict.gap for verdict in again] == pytest.approx([2.0, 1.0])
    assert (totals.annotations, more.annotations, more.ledger_hits) == (4, 0, 2)
    assert judge_metrics(found)["judge/panel_spread"] == pytest.approx(1.5)
    assert judge_metrics(found)["judge/billed_calls"] == 4


def test_no_number_comes_from_half_a_panel(ledger):
    with serve(model=Echo().model) as first, serve(ServerSettings(port=0, faults={"refusal": 1.0})) as second:
        (verdict,), totals = verdicts(panel(first, second), ledger, [planted(3)])
    assert (verdict.status, verdict.reward, verdict.gap) == ("refused", None, None)
    assert (totals.annotations, verdict.calls) == (2, 2)
    assert verdict.usage.input_tokens > 0


def test_each_member_files_under_its_own_name_and_has_its_own_price(ledger):
    with serve() as first, serve() as second, panel(first, second, prices=(CHEAP, DEAR)).open(ledger) as judge:
        (verdict,) = judge.submit(_one()).result()
        spent, price = judge.spent, judge.price
        assert judge.describe().startswith("panel of 2: m-0 at http")
    rows = list(readers.LedgerFile(ledger).rows())
    assert len({row.judge for row in rows}) == 2
    used = Usage(input_tokens=rows[0].input_tokens, output_tokens=rows[0].output_tokens)
    expected = CHEAP.cost_usd(used) + DEAR.cost_usd(used)
    assert verdict.cost_usd == pytest.approx(expected)
    assert spent.usd(price) == pytest.approx(expected)
    with serve() as first, serve() as second, panel(first, second, prices=(CHEAP, DEAR)).open(ledger) as judge:
        assert judge.spent_before.usd(judge.price) == pytest.approx(expected)


def test_one_unknown_price_leaves_the_cost_unknown(ledger):
    with serve() as first, serve() as second, panel(first, second, prices=(CHEAP, None)).open(ledger) as judge:
        (verdict,) = judge.submit(_one()).result()
        assert (judge.price, verdict.cost_usd, judge.totals.cost_usd) == (None, None, None)


def test_the_budget_counts_every_member(ledger):
    with serve() as first, serve() as second:
        settings = panel(first, second, budget_annotations=5)
        with settings.open(ledger) as judge:
            found = judge.submit(_completions(4)).result()
            assert judge.spent.annotations == 5
            assert [verdict.status for verdict in found].count("over_budget") == 2
            with pytest.raises(BudgetSpent, match=r"judge\.budget_annotations=5"):
                check_budget(found, judge.spent, judge.price)
        more = panel(first, second, budget_annotations=8)
        with more.open(ledger) as judge:
            assert [verdict.status for verdict in judge.submit(_completions(4)).result()] == ["ok"] * 4
            assert judge.spent.annotations == 3


def test_dollars_are_counted_at_each_members_price(ledger):
    with serve() as first, serve() as second:
        settings = panel(first, second, prices=(CHEAP, DEAR), budget_usd=0.01)
        with settings.open(ledger) as judge:
            found = judge.submit(_completions(30)).result()
            assert 0 < judge.spent.usd(judge.price) <= 0.0101
            assert "over_budget" in {verdict.status for verdict in found}


def test_the_answers_of_a_stranger_are_as_dear_as_any():
    prices = Prices({"openai a": CHEAP, "openai b": DEAR})
    used = Usage(input_tokens=1_000_000)
    spent = Spent(annotations=1, usage=used, by={"openai a": used})
    assert spent.usd(prices) == pytest.approx(1.0)
    assert Spent(annotations=1, usage=used, by={"": used}).usd(prices) == pytest.approx(10.0)
    assert (spent + spent - spent).usd(prices) == spent.usd(prices)
    assert payee({"wire": "openai", "model": "m", "endpoint": "x"}) == "openai m"


@pytest.mark.parametrize(
    ("judges", "told"),
    [
        ([{"name": "scripted"}], "a panel of 1 is none"),
        ([{"name": "scripted"}, {"name": "scripted", "levels": 5}], "5 and 10 levels"),
        ([{"name": "scripted"}, {"name": "scripted"}], "is there twice"),
        ([{"name": "scripted"}, {"name": "scripted", "budget_annotations": 5}], "state it beside judges"),
        ([{"name": "scripted"}, {"name": "panel", "judges": []}], "panel"),
        ([{"name": "scripted"}, {"name": "scripted", "colour": 1}], "colour"),
    ],
)
def test_a_mistake_is_named(judges, told):
    with pytest.raises(ValueError, match=told):
        ADAPTER.validate_python({"name": "panel", "judges": judges})


def test_a_limit_in_dollars_needs_every_price():
    unknown = {"name": "openai", "model": "m", "base_url": "http://h/v1"}
    with pytest.raises(ValueError, match="the price of one of the judges is unknown"):
        ADAPTER.validate_python({"name": "panel", "judges": [{"name": "scripted"}, unknown], "budget_usd": 1})


def test_settings_survive_the_run_folder_and_hosts_share_the_rates():
    settings = ADAPTER.validate_python(
        {"name": "panel", "judges": [{"name": "scripted"}, {"name": "scripted", "mode": "single"}]}
    )
    assert ADAPTER.validate_python(ADAPTER.dump_python(settings, mode="json")) == settings
    assert isinstance(settings, PanelJudge)
    assert [judge.concurrency for judge in settings.share(0, 4).judges] == [8, 8]
    assert settings.concurrency == 32


def _one():
    return _completions(1)


def _completions(count):
    return completions([f"A completion, number {number}." for number in range(count)])
