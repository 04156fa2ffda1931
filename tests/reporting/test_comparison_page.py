import math

import pytest
from rich.console import Console

from dar_jax.reporting.comparison_page import tables, write_page
from dar_jax.reporting.comparison_plots import axes_of, plot_name, write_curves, write_heat_map


def estimate(value, low=math.nan, high=math.nan):
    return {"value": value, "low": low, "high": high}


def row(name, judge="exact", **more):
    figures = dict.fromkeys(("training", "held_out", "kl", "length"), estimate(2.0, 1.0, 3.0))
    figures |= dict.fromkeys(("win_rate", "missing_eos"), estimate(0.5, 0.25, 0.75))
    curve = [
        {"annotations": n, "held_out": estimate(1.0 + n, n, 2.0 + n), "win_rate": estimate(0.5)} for n in (0, 32, 64)
    ]
    fixed = {"judge": judge, "name": name, "point": {}, "tuned": "", "runs": 2, "planned": 2, "annotations": 96}
    fixed |= {"level": 4.5, "to_level": estimate(56.0, 50.0, math.inf), "ratio": estimate(1.0), "curve": curve}
    return (
        fixed
        | {"billed": estimate(90.0), "dollars": estimate(math.nan), "usd_per_reward": estimate(0.00001234)}
        | figures
        | more
    )


ROWS = [row("dar"), row("best-of", to_level=estimate(math.inf)), row("dar", "coarse", runs=1, tuned="rate=0.01")]


@pytest.fixture
def shown():
    out = Console(width=240, record=True)
    for table in tables(ROWS):
        out.print(table)
    return out.export_text()


def test_a_table_a_judge(shown):
    assert "judge exact, level 4.50" in shown
    assert "judge coarse" in shown
    assert "50.0% (25.0% to 75.0%)" in shown
    assert "56 (50 to never)" in shown
    assert "dar (rate=0.01)" in shown
    assert "1 of 2" in shown
    assert "0.00001234" in shown


def test_the_page_has_the_tables_and_names_the_plots(tmp_path):
    write_page("small.yaml", ROWS, {"exact": ["curves-exact.svg"]}, tmp_path / "comparison.md")
    text = (tmp_path / "comparison.md").read_text()
    assert text.startswith("# small.yaml\n\n## judge exact, level 4.50\n\n| name | runs |")
    assert "![curves-exact.svg](curves-exact.svg)" in text
    assert "| best-of | 2 | 96 |" in text
    assert "Student's 95 % interval" in text


def test_plots_are_the_same_file_each_time(tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("one.svg", "two.svg"):
        write_curves(ROWS[:2], tmp_path / name)
    assert (tmp_path / "one.svg").read_text() == (tmp_path / "two.svg").read_text()
    assert "<svg" in (tmp_path / "one.svg").read_text()


def test_each_has_a_panel_and_one_that_asks_no_judge_is_a_level(tmp_path):
    pytest.importorskip("matplotlib")
    asks_none = row("offline", curve=[{**point, "annotations": 0} for point in ROWS[0]["curve"]])
    for measure in ("held_out", "win_rate"):
        write_curves([*ROWS[:2], asks_none], tmp_path / f"{measure}.svg", measure)
        text = (tmp_path / f"{measure}.svg").read_text()
        assert [text.count(f"<!-- {name} -->") for name in ("dar", "best-of", "offline")] == [1, 1, 1]
    assert "<!-- win rate -->" in text


def test_a_heat_map_of_two_axes(tmp_path):
    pytest.importorskip("matplotlib")
    points = [{"a.rho": rho, "a.tau": tau} for rho in (0.1, 0.4) for tau in (0.01, 0.05)]
    rows = [row(str(index), "", point=point) for index, point in enumerate(points[:3])]
    assert axes_of(rows) == {"a.rho": [0.1, 0.4], "a.tau": [0.01, 0.05]}
    write_heat_map(rows, tmp_path / plot_name("heat-map", ""))
    assert "<svg" in (tmp_path / "heat-map.svg").read_text()
