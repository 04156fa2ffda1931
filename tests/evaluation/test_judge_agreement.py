"""A judge whose every label is planted, over a real socket: the figures come out exactly."""

import json

import pytest

from dar_jax.chat.scripted.rule import ScriptedModel
from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.cli.main import main
from dar_jax.reporting import agreement_page
from tests.judging.sample_questions import Echo, planted

PROMPT = "Say something planted."
BLIND = "BLIND"


class Swayed(ScriptedModel):
    """Of two completions that are marked, it names the one shown first."""

    def probabilities(self, data, labels):
        if "completion_1" in data and BLIND in data["completion_1"]:
            return {"1": 1.0, "2": 0.0}
        return super().probabilities(data, labels)


def _pair(chosen, rejected, blind=False, more=""):
    mark = f" {BLIND}" * blind
    return {"prompt": PROMPT, "chosen": planted(chosen) + mark + more, "rejected": planted(rejected) + mark}


# 6 right, 2 wrong, 1 even, and 1 that is right by its rewards but decided by the order when compared. Each its own
# prompt, so that no two questions are one.
PAIRS = [
    *[_pair(9, 3, more=" And more." * (n % 2)) for n in range(6)],
    *[_pair(2, 7, more=" And more.") for _ in range(2)],
    _pair(5, 5),
    _pair(8, 4, blind=True),
]
PAIRS = [pair | {"prompt": f"{PROMPT} {n}"} for n, pair in enumerate(PAIRS)]


@pytest.fixture
def asked(tmp_path):
    """Yield a function that runs the verb on the pairs, and the server that it asks."""
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    with serve(ServerSettings(port=0), Swayed(name="scripted-swayed", scorer=Echo())) as server:
        config = tmp_path / "swayed.yaml"
        settings = {"name": "openai", "model": "scripted-swayed", "base_url": server.openai_url}
        config.write_text(json.dumps({"judge": settings | {"prices": {"input": 1, "output": 2, "date": "2026-11-01"}}}))

        def run(*more):
            return main(["agreement", str(config), "--data", str(data), "--output", str(tmp_path / "out"), *more])

        yield run, server, tmp_path / "out"


def test_planted_agreement_is_reproduced_exactly(asked, capsys):
    run, server, out = asked
    assert run("--json") == 0
    reward, preference = json.loads(capsys.readouterr().out)
    assert json.loads((out / "agreement.json").read_text()) == [reward, preference]

    found = reward["agreement"]
    assert (found["pairs"], found["judged"], found["wins"], found["ties"], found["losses"]) == (10, 10, 7, 1, 2)
    assert found["accuracy"] == pytest.approx(0.75)
    assert found["kappa"] == pytest.approx((0.7 - 0.45) / 0.55)
    assert (found["flip_rate"], found["chose_first"]) == (None, None)
    # Two scores a pair; the even pair's two texts are one question.
    assert reward["annotations"] == 19

    found = preference["agreement"]
    assert (found["judged"], found["wins"], found["ties"], found["losses"]) == (10, 6, 2, 2)
    assert found["accuracy"] == pytest.approx(0.7)
    assert found["kappa"] == pytest.approx((0.6 - 0.4) / 0.6)
    # Equal texts are not asked about; of the nine others one flips, both answers naming what was shown first.
    assert found["flip_rate"] == pytest.approx(1 / 9)
    assert found["chose_first"] == pytest.approx((8 * 0.5 + 1.0) / 9)
    assert preference["annotations"] == 18
    # Decided and of unlike length: 3 right ones and 2 wrong ones are longer where people chose.
    assert (found["longer"], found["longer_people"]) == pytest.approx((3 / 5, 1.0))
    assert preference["cost_per_label_usd"] == pytest.approx(preference["cost_usd"] / 10)
    assert server.answered.total() == 37
    assert "<svg" in (out / "agreement.html").read_text()


def test_the_same_command_pays_for_nothing_twice(asked, capsys):
    run, server, _ = asked
    assert run("--json") == 0
    first = capsys.readouterr().out
    asked_before = server.asked.total()
    assert run("--json") == 0
    assert capsys.readouterr().out == first
    assert server.asked.total() == asked_before


def test_each_judge_has_one_colour_in_both_plots():
    pytest.importorskip("matplotlib")
    nothing = {"low": 0.4, "high": 0.6, "calibration": [{"count": 4, "confidence": 0.8, "accuracy": 0.7}]}
    rows = [
        {"name": "j", "labels": labels, "agreement": nothing | {"accuracy": accuracy}}
        for labels, accuracy in (("reward", 0.55), ("preference", 0.45))
    ]
    for draw in (agreement_page._accuracy, agreement_page._calibration):
        drawn = draw(rows)
        # Of the colours of the marks: the first row's, blue, and the second's, orange.
        assert "#1f77b4" in drawn
        assert "#ff7f0e" in drawn
    bars = agreement_page._accuracy(rows)
    # The second row is drawn first, at the bottom.
    assert bars.index("#ff7f0e") < bars.index("#1f77b4")


def test_a_table_for_people(asked, capsys):
    run, _, _ = asked
    assert run("--labels", "reward") == 0
    shown = capsys.readouterr().out
    assert "about, less what the ledger holds: 20 questions, " in shown
    assert "75.0%" in shown
    assert "swayed, reward" in shown
    assert "preference" not in shown


def test_a_judge_that_cannot_compare_is_one_line(asked, capsys):
    run, server, _ = asked
    criteria = "judge.criteria=[{name: tone, instructions: Judge the tone., weight: 1}]"
    assert run("--json", criteria) == 2
    told = capsys.readouterr().err.strip()
    assert len(told.splitlines()) == 1
    assert "--labels reward" in told
    assert server.asked.total() == 0


def test_a_judge_that_fails_stops_with_its_status(asked):
    run, _, out = asked
    assert run("judge.base_url=http://127.0.0.1:9/v1", "judge.attempts=1") == 3
    assert not (out / "agreement.json").exists()
