"""The verbs of `dar-jax ledger`, on ledgers that judges wrote."""

import json

import pytest

from dar_jax.cli.main import main
from dar_jax.judging import ScriptedJudge
from dar_jax.judging.ledger import readers
from dar_jax.judging.section import parse_judge
from dar_jax.reporting.ledgers import _floor
from dar_jax.reporting.steps import completion_rows
from dar_jax.runlog import layout
from tests.judging.ledger.test_ledger import put, question
from tests.judging.sample_questions import completions

CONFIG = "policy: {path: p}\ndata: {path: d}\njudge: {name: scripted, mass_floor: 0.25}\n"
TEXTS = ["the cat sat", "a dog ran off", "..."]


def judged(ledger, texts, **settings):
    with ScriptedJudge(**settings).open(ledger) as judge:
        return judge.submit(completions(texts)).result(), judge.totals


@pytest.fixture
def run(tmp_path):
    folder = layout(tmp_path / "run").create(tmp_path / "run", CONFIG)
    verdicts, _ = judged(folder.ledger, TEXTS)
    folder.write("completions", completion_rows(1, completions(TEXTS), verdicts, {}))
    return folder.path


def said(capsys, *words):
    assert main([*map(str, words)]) == 0
    return capsys.readouterr().out


def test_stats_is_a_table_and_json(run, capsys):
    table = said(capsys, "ledger", "stats", run)
    assert 'scripted-overlap, "You grade how well a completion answers a ..."' in table
    assert "all: answers 2, usable 2, attempts 2, no usage 0" in table
    plain = json.loads(said(capsys, "ledger", "stats", run, "--json"))
    (served,) = plain["judges"][0]["served_models"]
    assert (served["served_model"], served["answers"], plain["total"]["cost_usd"]) == ("scripted-overlap", 2, 0.0)
    assert served["first"][:4] == served["last"][:4] >= "2026"


def test_an_unknown_cost_is_said(tmp_path, capsys):
    put(tmp_path / "a.sqlite", question("a"))
    assert "US dollars unknown" in said(capsys, "ledger", "stats", tmp_path / "a.sqlite")


def test_a_scored_files_dollars_are_known_by_the_prices_given(run, capsys):
    prices = "{input: 10, output: 50, date: 2026-11}"
    plain = json.loads(said(capsys, "ledger", "stats", run / "ledger.sqlite", "--prices", prices, "--json"))["total"]
    expected = (10 * plain["input_tokens"] + 50 * plain["output_tokens"]) / 1e6
    assert expected > 0
    assert plain["cost_usd"] == pytest.approx(expected)
    assert plain["usd_per_usable"] == pytest.approx(expected / 2)
    for wrong in ("{input: 10}", "{input: -1, output: 1, date: x}", "12", "{"):
        assert main(["ledger", "stats", str(run), "--prices", wrong]) == 2
        assert f"--prices {wrong}: " in capsys.readouterr().err


def test_export_holds_what_the_judge_said(run, tmp_path, capsys):
    output = tmp_path / "answers.jsonl"
    assert said(capsys, "ledger", "export", run, "--output", output) == f"{output}: 2 answers\n"
    rows = {row["completion"]: row for row in map(json.loads, output.read_text().splitlines())}
    verdicts, _ = judged(run / "ledger.sqlite", TEXTS[:2])
    for text, verdict in zip(TEXTS, verdicts, strict=False):
        assert (rows[text]["verdict"], rows[text]["reward"]) == ("ok", verdict.reward)
        assert tuple(rows[text]["distribution"]["probabilities"]) == verdict.distribution.probabilities
        assert rows[text]["usage"]["output_tokens"] == 1
        assert (rows[text]["prompt"], rows[text]["served_model"]) == ("Say something planted.", "scripted-overlap")
    assert main(["ledger", "export", str(run), "--output", str(output)]) == 2
    assert "it is there already" in capsys.readouterr().err


def test_export_appears_whole_or_not_at_all(tmp_path, capsys):
    (tmp_path / "bad.sqlite").write_bytes(b"not a database!!" * 256)
    assert main(["ledger", "export", str(tmp_path / "bad.sqlite"), "--output", str(tmp_path / "o.jsonl")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["bad.sqlite"]


def test_an_unusable_answer_is_exported_without_a_number(tmp_path, capsys):
    put(tmp_path / "a.sqlite", question("a"))
    said(capsys, "ledger", "export", tmp_path / "a.sqlite", "--output", tmp_path / "o.jsonl")
    row = json.loads((tmp_path / "o.jsonl").read_text())
    assert (row["verdict"], row["reward"], row["distribution"]) == ("failed", None, None)


def test_merged_answers_are_free(tmp_path, capsys):
    one, two, both = (tmp_path / f"{name}.sqlite" for name in ("one", "two", "both"))
    judged(one, ["a cat", "a dog"])
    judged(two, ["a dog", "a cow"])
    told = said(capsys, "ledger", "merge", one, two, "--output", both)
    assert told == f"{both}: 3 answers; 1 more had the key of one before them, which was kept\n"
    before = next(row.answered_at for row in readers.LedgerFile(one).rows() if row.completion == "a dog")
    assert before == next(row.answered_at for row in readers.LedgerFile(both).rows() if row.completion == "a dog")
    _, totals = judged(both, ["a cat", "a dog", "a cow"])
    assert (totals.annotations, totals.ledger_hits) == (0, 3)
    assert main(["ledger", "audit", str(both)]) == 0
    assert main(["ledger", "merge", str(one), "--output", str(both)]) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"one.sqlite", "two.sqlite", "both.sqlite"}


def test_a_sound_run_is_said_so(run, capsys):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert main(["ledger", "audit", str(run)]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"{run}: 2 answers, 2 completions with a reward: sound\n")
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_findings_are_lines_and_status_1(run, capsys):
    log = run / "completions.jsonl"
    first = json.loads(log.read_text().splitlines()[0])
    log.write_text(log.read_text() + '{\n{"step": 1}\n' + json.dumps(first | {"completion": "new"}) + "\n" + '{"half')
    assert main(["ledger", "audit", str(run)]) == 1
    captured = capsys.readouterr()
    missing, damaged, strange = captured.out.splitlines()
    assert missing.startswith("1 completion with a reward in completions.jsonl and no answer in the ledger")
    assert "completions.jsonl, line 4: damaged" in damaged
    assert "completions.jsonl, line 5: damaged: no row" in strange
    assert "3 findings" in captured.err


def test_a_run_under_a_url(url, tmp_path, capsys):
    folder = layout(url).create(url, CONFIG)
    verdicts, _ = judged(folder.ledger, TEXTS)
    folder.write("completions", completion_rows(1, completions(TEXTS), verdicts, {}))
    folder.flush()
    assert "all: answers 2" in said(capsys, "ledger", "stats", url)
    assert main(["ledger", "audit", url]) == 0
    assert "2 answers, 2 completions" in capsys.readouterr().err
    assert "2 answers" in said(capsys, "ledger", "export", url, "--output", tmp_path / "o.jsonl")
    said(capsys, "ledger", "merge", url, "--output", tmp_path / "o.sqlite")
    assert judged(tmp_path / "o.sqlite", TEXTS)[1].annotations == 0


def test_a_runs_floor_is_used_unless_one_is_given(run, capsys):
    assert [_floor(run, None), _floor(run, 0.75), _floor(run / "ledger.sqlite", None)] == [0.25, 0.75, 0.5]
    assert main(["ledger", "audit", str(run), "--mass-floor", "7"]) == 2
    assert "expected a share" in capsys.readouterr().err


PANEL = """
policy: {path: p}
data: {path: d}
judge: {name: panel, judges: [{name: scripted, mode: decision, permutations: 2}, {name: scripted, mode: auto}]}
"""


def test_the_ledger_of_a_panel_is_audited_summed_and_exported(tmp_path, capsys):
    folder = layout(tmp_path / "run").create(tmp_path / "run", PANEL)
    with parse_judge(PANEL, where="x").open(folder.ledger) as judge:
        verdicts = judge.submit(completions(TEXTS)).result()
    folder.write("completions", completion_rows(1, completions(TEXTS), verdicts, {}))
    assert main(["ledger", "audit", str(folder.path)]) == 0
    assert "7 answers, 2 completions with a reward" in capsys.readouterr().err
    table = said(capsys, "ledger", "stats", folder.path)
    assert "answers 7" in table
    assert "US dollars 0.0000" in table
    output = tmp_path / "answers.jsonl"
    said(capsys, "ledger", "export", folder.path, "--output", output)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert {(row["verdict"], row["provenance"]) for row in rows} == {("ok", "decision")}
