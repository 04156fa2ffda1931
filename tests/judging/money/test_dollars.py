import pytest

from dar_jax.judging.money.prices import amount, dollars, each_reward


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (0.0, "0.0000"),
        (0.00002341, "0.00002341"),
        (0.0123, "0.01230"),
        (0.5, "0.5000"),
        (1204.5, "1,204.5000"),
        (-0.00001, "-0.00001000"),
        (1e-30, "1.000e-30"),
    ],
)
def test_an_amount_has_four_digits_that_matter(usd, text):
    assert amount(usd) == text


def test_an_unknown_cost_has_no_amount():
    assert dollars(None) == "cost unknown"
    assert dollars(0.5) == "0.5000 US dollars"
    assert each_reward(0.5, 100) == ", 0.005000 a reward"
    assert each_reward(None, 100) == each_reward(0.0, 100) == each_reward(0.5, 0) == ""
