import io
import json

from dar_jax.console import Console, Sample


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
