from pathlib import Path

import pytest

from dar_jax.errors import SettingError

TWO = """
compare:
  seeds: 2
  algorithms:
    dar:
    pairs: {algorithm.name: online_dpo, group_size: 2, judge.labels: preference}
"""
JUDGES = """
compare:
  seeds: 1
  algorithms: {dar: , rloo: }
  judges:
    exact:
    coarse: {judge.levels: 5, judge.mode: single}
  grid: {learning.optimizer.learning_rate: [0.001, 0.01]}
"""


def test_every_algorithm_takes_as_many_annotations(plan):
    first, second, *_, last = plan(TWO).compared({})
    # 3 steps of 8 prompts x 4 grades: 96. A pair in both orders is 2, so 8 pairs are 16 a step.
    assert (first.name, first.seed, second.seed, last.name) == ("dar", 0, 1, "pairs")
    assert (first.asked_a_step, first.config.steps) == (32, 3)
    assert (last.asked_a_step, last.config.steps) == (16, 6)
    assert (first.config.algorithm.name, last.config.algorithm.name) == ("dar", "online_dpo")


def test_what_a_comparison_shares(plan):
    cells = plan(TWO, "compare.evaluations=2").compared({})
    assert len({repr((cell.config.policy, cell.config.data, cell.config.sampling)) for cell in cells}) == 1
    assert [cell.config.evaluation.every_steps for cell in cells] == [2, 2, 3, 3]
    assert {cell.config.ledger for cell in cells} == {plan(TWO).folder}
    assert [str(cell.place) for cell in cells] == ["dar/seed-0", "dar/seed-1", "pairs/seed-0", "pairs/seed-1"]


def test_each_judge_tunes_each_algorithm(plan):
    found = plan(JUDGES)
    tuning = found.tuning()
    assert len(tuning) == 2 * 2 * 2
    assert {cell.config.evaluation.every_steps for cell in tuning} == {None}
    assert tuning[0].place == Path("exact/dar/tuning/learning_rate-0.001/seed-1000")
    rate = {"learning.optimizer.learning_rate": 0.01}
    # One that has no best point is left out; the others are run at theirs.
    cells = found.compared({("exact", "dar"): rate, ("coarse", "dar"): rate, ("coarse", "rloo"): rate})
    assert [(cell.judge, cell.name) for cell in cells] == [("exact", "dar"), ("coarse", "dar"), ("coarse", "rloo")]
    assert {cell.config.learning.optimizer.learning_rate for cell in cells} == {0.01}
    assert [cell.config.judge.levels for cell in cells] == [10, 5, 5]
    assert {cell.config.evaluation.judge.levels for cell in cells} == {10}


def test_one_judge_tunes_for_all(plan):
    found = plan(JUDGES, "compare.tuning_judge=exact")
    assert {cell.judge for cell in found.tuning()} == {"exact"}
    rate = {"learning.optimizer.learning_rate": 0.01}
    cells = found.compared({("exact", "dar"): rate})
    assert [(cell.judge, cell.name, cell.point) for cell in cells] == [("exact", "dar", rate), ("coarse", "dar", rate)]


def test_a_sweep_is_the_product_of_its_axes(plan):
    grid = {"algorithm.alpha_ratio": [0.1, 0.4], "algorithm.total_regularization": [0.01, 0.05]}
    cells = plan("compare: {seeds: 2}").swept(grid)
    assert len(cells) == 8
    assert cells[2].name == "alpha_ratio=0.1, total_regularization=0.05"
    assert cells[2].place == Path("alpha_ratio-0.1,total_regularization-0.05/seed-0")
    assert (cells[2].config.algorithm.alpha_ratio, cells[2].config.algorithm.total_regularization) == (0.1, 0.05)
    assert {cell.config.steps for cell in cells} == {3}


def test_one_that_asks_no_judge_keeps_the_steps(plan):
    (cell,) = plan("compare: {seeds: 1, annotations: 64, algorithms: {sft: }}").compared({})
    assert (cell.asked_a_step, cell.config.steps) == (0, 3)


@pytest.mark.parametrize(
    ("compare", "told"),
    [
        ("{algorithms: {dra: }}", "dra is none of dar"),
        ("{algorithms: {dar: {sampling.temperature: 0.5}}}", "sampling.temperature must be the same for all"),
        ("{algorithms: {dar: {judge.scorer: minitldr}}}", "judge.scorer must be the same for all"),
        ("{algorithms: {sft: {policy.path: x}}}", "policy.path must be the same for all"),
        ("{algorithms: {dar: {group_size: 8}}, grid: {group_size: [2]}}", "group_size is in compare.grid as well"),
        ("{judges: {hard: {steps: 2}}}", "steps is not of the judge"),
        ("{algorithms: {../dar: {group_size: 8}}}", "is to name a folder"),
        ("{algorithms: {sft: , dar: }}", "compare.annotations: missing, and sft"),
        ("{judges: {hard: }, grid: {seed: [1]}, tuning_judge: exact}", "exact is none of the judges compared (hard)"),
        ("{seed: 3}", "compare.seed: there is no such setting; did you mean compare.seeds?"),
        ("{seeds: none}", "compare.seeds: got 'none', expected a valid integer"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(plan, compare, told):
    with pytest.raises(SettingError) as caught:
        plan(f"compare: {compare}")
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_annotations_that_are_no_whole_steps_are_refused(plan):
    with pytest.raises(
        SettingError, match=r"a step of dar takes 32 annotations, of which 100 are no multiple.*such as 96"
    ):
        plan("compare: {annotations: 100, algorithms: {dar: }}").compared({})


def test_without_held_out_prompts_there_is_nothing_to_compare(plan):
    with pytest.raises(SettingError, match="evaluation: missing"):
        plan("compare: {algorithms: {dar: }}", "evaluation=null")


def test_a_wrong_setting_of_an_algorithm_is_named(plan):
    with pytest.raises(SettingError, match=r"algorithm\.alpha_ration: there is no such setting; did you mean"):
        plan("compare: {algorithms: {dar: {algorithm.alpha_ration: 1}}}")
