import pytest

from dar_jax.experiments.grid import at_an_end, folder, points, written

GRID = {
    "learning.optimizer.learning_rate": [1e-3, 1e-2, 1e-4],
    "algorithm.clip": [0.2],
    "algorithm.scale": [True, False],
}


def test_points_move_fastest_in_the_last_key():
    found = points({"a.x": [1, 2], "b.x": ["u", "v"]})
    assert found == [{"a.x": 1, "b.x": "u"}, {"a.x": 1, "b.x": "v"}, {"a.x": 2, "b.x": "u"}, {"a.x": 2, "b.x": "v"}]
    assert written(found[1]) == "a.x=1, b.x=v"
    assert folder({"learning.rate": 1e-4, "name": "a b"}) == "rate-0.0001,name-ab"


@pytest.mark.parametrize(("rate", "ends"), [(1e-4, True), (1e-3, False), (1e-2, True)])
def test_the_ends_of_a_grid_are_its_lowest_and_highest_numbers(rate, ends):
    point = {"learning.optimizer.learning_rate": rate, "algorithm.clip": 0.2, "algorithm.scale": False}
    assert at_an_end(point, GRID) == ["learning.optimizer.learning_rate"] * ends
