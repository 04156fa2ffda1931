from dar_jax.run.reporter import RecurringWarnings


def test_a_warning_is_shown_at_first_and_every_tenth_step():
    recurring = RecurringWarnings()
    shown = [step for step in range(1, 24) if recurring.due(step, ["no completion ended by itself"])]
    assert shown == [1, 11, 21]


def test_one_that_comes_and_goes_is_not_shown_each_time():
    recurring = RecurringWarnings()
    shown = [step for step in range(1, 12) if step % 2 and recurring.due(step, [f"the judge gives {step}.5 to it"])]
    assert shown == [1, 11]
    assert recurring.due(12, ["another one"]) == ["another one"]
