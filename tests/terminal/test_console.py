import io
import json

import pytest
import rich.console

from dar_jax.terminal.console import Console, Sample


def _say(mode):
    file = io.StringIO()
    console = Console(mode, file)
    console.note("hello [bold]brackets[/bold]", count=1)
    console.start(20, 3)
    console.step(4, 20, {"loss": "0.5"}, {"loss": 0.5})
    console.samples("samples", [Sample(prompt="p " * 99, completion="[c]", reward=None, weight=0.0)])
    console.warn("careful")
    console.finish()
    return file.getvalue()


def test_plain_is_lines():
    said = _say("plain")
    assert "hello [bold]brackets[/bold]" in said
    assert " 4/20  loss 0.5" in said
    assert "none w=0.00" in said
    assert "[c]" in said
    assert "\x1b" not in said


def test_a_long_work_is_a_line_now_and_then(monkeypatch):
    clock = iter([0.0, 10.0, 40.0, 50.0, 80.0])
    monkeypatch.setattr("dar_jax.terminal.console.time.perf_counter", lambda: next(clock))
    file = io.StringIO()
    with Console("plain", file).counting("judged", 1000) as tell:
        for done in (100, 400, 500, 800):
            tell(done, "0.1 US dollars  [2] failed")
    assert file.getvalue().splitlines() == [
        "judged 400/1,000  10.0/s  0.1 US dollars  [2] failed  1 min left",
        "judged 800/1,000  10.0/s  0.1 US dollars  [2] failed  0 min left",
    ]


def test_a_long_work_is_a_bar_on_a_terminal():
    console = Console("rich", io.StringIO())
    console._rich = rich.console.Console(file=console._rich.file, force_terminal=True, width=120)
    with console.counting("judged", 10) as tell:
        tell(4, "[x] failed")
    assert "4/10" in console._rich.file.getvalue()
    assert "[x] failed" in console._rich.file.getvalue()


def test_json_is_one_object_a_line():
    objects = [json.loads(line) for line in _say("json").splitlines()]
    assert {"step": 4, "loss": 0.5} in objects
    assert {"warning": "careful"} in objects
    assert objects[0]["count"] == 1


def test_quiet_says_warnings_alone():
    assert _say("quiet").split() == ["warning:", "careful"]


def test_rich_shows_a_table_and_a_bar():
    said = _say("rich")
    assert "completion" in said
    assert "4/20" in said


def test_auto_is_plain_without_a_terminal():
    assert Console("auto", io.StringIO()).mode == "plain"


@pytest.mark.parametrize(("mode", "lines"), [("plain", 1), ("json", 1), ("quiet", 0)], ids=["plain", "json", "quiet"])
def test_a_long_reading_is_one_line_where_there_is_no_terminal(mode, lines):
    file = io.StringIO()
    with Console(mode, file).reading("some/model") as tell:
        for done in range(0, 3_000_001, 1_000_000):
            tell(done, 3_000_000)
    said = file.getvalue().splitlines()
    assert len(said) == lines
    assert all("read some/model: 3 MB in" in line for line in said)


def test_a_long_reading_is_a_bar_on_a_terminal():
    file = io.StringIO()
    console = Console("rich", file)
    console._rich = rich.console.Console(file=file, force_terminal=True, width=100)
    with console.reading("some/[model]") as tell:
        tell(1_500_000, 3_000_000)
    assert "some/[model]" in file.getvalue()
    assert "1.5/3.0 MB" in file.getvalue()


@pytest.mark.parametrize("mode", ["rich", "plain", "json"])
def test_no_text_reaches_the_terminal_as_a_control_sequence(mode):
    file, evil = io.StringIO(), "\x1b]52;c;ZXZpbA==\x07\x9b2J\u202e"
    console = Console(mode, file)
    console.note(evil)
    console.warn(evil)
    console.step(1, 2, {"loss": evil}, {"loss": evil})
    console.samples(evil, [Sample(prompt=evil, completion=evil, reward=1.0, weight=1.0)])
    with console.counting(evil, 2) as tell:
        tell(1, evil)
    assert not {"\x07", "\x9b", "\u202e"} & set(file.getvalue())
    assert "\x1b]" not in file.getvalue()
    assert r"\u202e" in file.getvalue()


def test_json_has_no_nan():
    file = io.StringIO()
    Console("json", file).step(1, 2, {}, {"loss": float("nan"), "eval": {"win_rate": float("inf")}})
    assert json.loads(file.getvalue(), parse_constant=pytest.fail) == {
        "step": 1,
        "loss": None,
        "eval": {"win_rate": None},
    }


def test_a_name_with_braces_is_no_format():
    file = io.StringIO()
    with Console("rich", file).reading("runs/{a}:smile:") as tell:
        tell(1, 2)
    assert "runs/{a}:smile:" in file.getvalue()
