import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_jax.errors import BudgetSpent
from dar_jax.judging.money.budget import Budget, annotations_limit, check_budget, usd_limit
from dar_jax.judging.money.prices import FREE, Price
from dar_jax.judging.money.spent import Spent
from dar_jax.records import Distribution, Usage, Verdict

PRICE = Price(input=1.0, output=1.0, date="2026-11")
OK = Verdict(status="ok", distribution=Distribution(levels=(1.0, 2.0), probabilities=(0.5, 0.5)))


def tokens(count: int, annotations: int = 1) -> Spent:
    return Spent(annotations=annotations, usage=Usage(input_tokens=count))


def answers(count: int) -> Spent:
    return tokens(0, count)


def reserve(budget: Budget, amount: Spent) -> str | None:
    """Reserve what needs no waiting; None where there is room."""
    refusal = asyncio.run(asyncio.wait_for(budget.reserve(amount), 1.0))
    return refusal and refusal.setting


def test_the_last_answer_is_the_limits():
    budget = Budget([annotations_limit(3, answers(1))], answers(1))
    for _ in range(2):
        assert reserve(budget, answers(1)) is None
        budget.settle(answers(1), answers(1))
    assert reserve(budget, answers(1)) == "judge.budget_annotations"
    assert budget.before + budget.spent == answers(3)


def test_real_usage_takes_the_place_of_the_estimate():
    budget = Budget([usd_limit(100e-6, PRICE, Spent())])
    assert reserve(budget, tokens(90)) is None
    budget.settle(tokens(90), tokens(10))
    assert reserve(budget, tokens(90)) is None
    budget.settle(tokens(90), tokens(11))
    assert reserve(budget, tokens(80)) == "judge.budget_usd"
    assert reserve(budget, tokens(79)) is None


def test_a_call_without_an_answer_gives_all_back():
    budget = Budget([annotations_limit(1, Spent())])
    for _ in range(3):
        assert reserve(budget, answers(1)) is None
        budget.settle(answers(1), Spent())
    assert budget.spent == Spent()


def test_an_underestimate_stops_the_next_call():
    budget = Budget([usd_limit(100e-6, PRICE, Spent())])
    assert reserve(budget, tokens(90)) is None
    budget.settle(tokens(90), tokens(120))
    assert reserve(budget, tokens(1)) == "judge.budget_usd"


def test_what_is_under_way_is_taken_to_need_as_much_more_as_answers_did():
    """Digits take 2.6 times the tokens estimated: 22 calls under way would pass the limit by as much."""
    budget = Budget([usd_limit(1000e-6, PRICE, Spent())])
    assert reserve(budget, tokens(100)) is None
    budget.settle(tokens(100), tokens(260))

    async def begin_three():
        found = [asyncio.create_task(budget.reserve(tokens(100))) for _ in range(3)]
        await asyncio.sleep(0.01)
        begun = [task.done() for task in found]
        for _ in range(2):
            budget.settle(tokens(100), tokens(260))
        return begun, await asyncio.gather(*found)

    begun, found = asyncio.run(begin_three())
    assert begun == [True, True, False]
    assert found[:2] == [None, None]
    assert found[2].setting == "judge.budget_usd"


def test_what_costs_nothing_is_never_stopped_by_dollars():
    budget = Budget([usd_limit(1e-9, FREE, tokens(10**9))], tokens(10**9))
    assert reserve(budget, tokens(10**9)) is None
    assert reserve(Budget(), tokens(10**9)) is None


def test_a_refusal_says_which_setting_how_much_and_what_is_spent():
    budget = Budget([usd_limit(5.0, PRICE, tokens(4_990_000))], tokens(4_990_000))
    refusal = asyncio.run(budget.reserve(tokens(20_000)))
    assert refusal.reason == "judge.budget_usd=5 has no room for this question: 4.99 spent"
    shared = Budget([annotations_limit(10, Spent(), 1, 3)])
    shared.spent = answers(3)
    refusal = asyncio.run(shared.reserve(answers(1)))
    assert refusal.reason.endswith("3 spent, this host's part ends at 3")


@given(st.integers(1, 100), st.integers(0, 120), st.integers(1, 7))
def test_hosts_divide_exactly_what_is_left(limit, spent, count):
    before = answers(spent)
    limits = [annotations_limit(limit, before, index, count) for index in range(count)]
    rooms = [max(0, each.ceiling - spent) for each in limits]
    assert sum(rooms) == max(0, limit - spent)
    assert max(rooms) - min(rooms) <= 1
    dollars = usd_limit(limit * 1e-6, PRICE, tokens(spent), count)
    assert (dollars.ceiling - spent * 1e-6) * count <= max(0, limit - spent) * 1e-6 + 1e-12
    assert count > 1 or dollars.ceiling == limit * 1e-6


CALLS = st.lists(st.tuples(st.integers(1, 30), st.floats(0, 1), st.integers(0, 5)), max_size=40)


@given(CALLS, st.integers(1, 200), st.integers(1, 30), st.integers(0, 50))
def test_no_limit_is_ever_passed(calls, most_tokens, most_answers, before):
    """However calls overlap, fail or cost less than they might; and whoever is refused finds no room later either."""
    already = tokens(before)
    limits = [usd_limit(most_tokens * 1e-6, PRICE, already), annotations_limit(most_answers, already)]
    budget, refused = Budget(limits, already), []

    async def call(most, share, pauses):
        amount = tokens(most)
        if await budget.reserve(amount):
            refused.append(amount)
            return
        committed = budget.before + budget.spent + budget._reserved
        assert all(limit.holds(committed) for limit in limits)
        for _ in range(pauses):
            await asyncio.sleep(0)
        budget.settle(amount, tokens(int(share * most)) if share > 0.1 else Spent())

    async def all_of_them():
        await asyncio.wait_for(asyncio.gather(*(call(*each) for each in calls)), 5.0)

    asyncio.run(all_of_them())
    spent = budget.before + budget.spent
    assert not budget._reserved.annotations
    assert budget.spent == Spent() or all(limit.holds(spent) for limit in limits)
    assert not [amount for amount in refused if all(limit.holds(spent + amount) for limit in limits)]


def test_a_waiting_call_can_be_cancelled():
    budget = Budget([annotations_limit(1, Spent())])

    async def scene():
        assert await budget.reserve(answers(1)) is None
        waiting = asyncio.create_task(budget.reserve(answers(1)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        budget.settle(answers(1), Spent())
        assert await budget.reserve(answers(1)) is None

    asyncio.run(asyncio.wait_for(scene(), 5.0))


def test_a_missing_judgement_stops_the_run():
    check_budget([OK, OK], answers(2), PRICE)
    missing = Verdict(status="over_budget", reason="judge.budget_usd=5 has no room", provenance="judge.budget_usd")
    with pytest.raises(BudgetSpent) as caught:
        check_budget([OK, missing, missing], tokens(4_900_000, 7), PRICE)
    assert (caught.value.exit_status, caught.value.setting) == (4, "judge.budget_usd")
    assert "judge.budget_usd=5 has no room" in str(caught.value)
    assert "bought 7 answers for 4.9 US dollars, lacks 2 of 3 judgements" in str(caught.value)
    with pytest.raises(BudgetSpent, match="bought 7 answers, lacks"):
        check_budget([missing], answers(7), None)
