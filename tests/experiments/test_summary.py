"""Summaries of runs whose logs are written here: every figure is known."""

import json
import math

import pytest

from dar_jax.errors import SettingError
from dar_jax.experiments.running import check_unchanged, is_finished
from dar_jax.experiments.summary import best_points, groups, summary
from tests.experiments.pretending import pretend

TWO = "compare: {seeds: 2, evaluations: 3, algorithms: {dar: , slow: {algorithm.total_regularization: 1.0}}}"


@pytest.fixture
def rows(plan):
    found = plan(TWO)
    cells = found.compared({})
    for cell, rewards in zip(cells, [(3, 5, 7), (3, 5, 9), (2, 3, 4), (2, 3, 5)], strict=True):
        pretend(cell, found.folder, rewards)
    return summary(groups(cells, found.folder), None)


def test_a_row_an_algorithm(rows):
    dar, slow = rows
    assert (dar["name"], dar["runs"], dar["seeds"], dar["annotations"]) == ("dar", 2, [0, 1], 96)
    assert dar["held_out"]["value"] == 8.0
    assert dar["held_out"]["high"] == pytest.approx(8 + 12.706205, abs=1e-5)
    assert dar["win_rate"]["value"] == pytest.approx(0.9)
    assert (dar["training"]["value"], dar["kl"]["value"], dar["missing_eos"]["value"]) == (2.0, 0.5, 0.25)
    assert (dar["billed"]["value"], dar["dollars"]["value"], dar["length"]["value"]) == (90, 1.5, 7)
    assert dar["usd_per_reward"]["value"] == pytest.approx(1.5 / 48)
    assert [point["annotations"] for point in dar["curve"]] == [0, 32, 64, 96]
    assert [point["held_out"]["value"] for point in dar["curve"]] == [1, 3, 5, 8]
    assert slow["curve"][0]["win_rate"]["value"] == 0.5


def test_the_level_is_the_highest_that_all_reach(rows):
    dar, slow = rows
    assert dar["level"] == slow["level"] == 4.5
    assert dar["to_level"]["value"] == pytest.approx(32 + 32 * 1.5 / 2)
    assert slow["to_level"]["value"] == 96
    assert slow["to_level"]["high"] == math.inf  # the first of its seeds alone ends at 4
    assert (dar["ratio"]["value"], slow["ratio"]["value"]) == (1.0, pytest.approx(96 / 56))


def test_a_level_may_be_given_and_never_reached(plan):
    found = plan(TWO)
    cells = found.compared({})
    for cell in cells:
        pretend(cell, found.folder, (2, 3, 4))
    dar, _ = summary(groups(cells, found.folder), 6.0)
    assert (dar["level"], dar["to_level"]["value"]) == (6.0, math.inf)
    assert math.isnan(dar["ratio"]["value"])


def test_unfinished_runs_are_counted_and_not_read(plan):
    found = plan(TWO)
    cells = found.compared({})
    pretend(cells[0], found.folder, (3, 5, 7))
    pretend(cells[1], found.folder, (3,), finished=False)
    pretend(cells[3], found.folder, (2, 3, 5))
    dar, slow = summary(groups(cells, found.folder), None)
    assert (dar["runs"], dar["planned"], dar["held_out"]["value"]) == (1, 2, 7.0)
    assert [is_finished(cell, found.folder) for cell in cells] == [True, False, False, True]
    # The two have no seed in common.
    assert math.isnan(slow["ratio"]["value"])


def test_without_the_first_there_is_no_ratio(plan):
    found = plan(TWO)
    cells = found.compared({})
    pretend(cells[2], found.folder, (2, 3, 5))
    (slow,) = summary(groups(cells, found.folder), None)
    assert slow["name"] == "slow"
    assert math.isnan(slow["ratio"]["value"])


def test_the_best_point_has_the_highest_held_out_reward(plan):
    found = plan("compare: {seeds: 1, evaluations: 3, algorithms: {dar: , rloo: }, grid: {group_size: [2, 4, 12]}}")
    tuning = found.tuning()
    for cell, last in zip(tuning, (2.0, 6.0, 6.0, 1.0, 2.0), strict=False):
        pretend(cell, found.folder, (last,))
    # rloo lacks a run, so that it has no best one.
    assert best_points(tuning, found.folder) == {("", "dar"): {"group_size": 4}}


def test_a_changed_plan_is_refused_in_a_line(plan):
    found = plan(TWO)
    pretend(found.compared({})[2], found.folder, (2, 3, 5))
    check_unchanged(plan(TWO, "judge.concurrency=2").compared({}), found.folder)
    for override, told in {
        "seed=1": "",
        "compare.annotations=192": "steps: 3 -> 6",
        "group_size=8": "group_size",
    }.items():
        cells = plan(TWO, override).compared({})
        if not told:  # other cells, beside these
            check_unchanged(cells, found.folder)
            continue
        with pytest.raises(SettingError, match=told) as caught:
            check_unchanged(cells, found.folder)
        assert len(str(caught.value).splitlines()) == 1
        assert "slow/seed-0 was begun with other settings" in str(caught.value)


def test_rows_are_json_after_all(rows):
    assert json.loads(json.dumps(rows))[0]["name"] == "dar"
