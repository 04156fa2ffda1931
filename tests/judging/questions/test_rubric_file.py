import pytest

from dar_jax.chat.scripted.server import serve
from dar_jax.chat.wire import Level
from dar_jax.errors import SettingError
from dar_jax.judging import ScriptedJudge
from dar_jax.judging.ledger import readers
from dar_jax.judging.ledger.rereading import described
from dar_jax.judging.questions.calls import about_one
from dar_jax.judging.questions.rubric_file import Rubric, read_rubric
from dar_jax.judging.section import parse_judge
from tests.judging.sample_questions import Echo, completions, planted
from tests.judging.test_judge import verdicts
from tests.wires import judge_settings

MINE = """
instructions: |
  You grade how well a completion {explains} a theorem, %s.
levels:
  - wrong
  - right, but hard to follow
  - right and clear
examples:
  - {prompt: "Why?", completion: "There just are.", grade: 0, why: It gives no reason.}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    return path


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "ledger.sqlite"


def test_all_that_it_says_is_asked(file, ledger):
    with serve(model=Echo().model) as server:
        (verdict,), _ = verdicts(judge_settings("openai", server, rubric_file=file), ledger, [planted(10)])
        (body,) = server.bodies.values()
    system = body["messages"][0]["content"]
    assert system.startswith("You grade how well a completion {explains} a theorem, %s.")
    assert "one of 0, 1, 2, a single digit" in system
    assert "0: wrong\n1: right, but hard to follow\n2: right and clear" in system
    assert '"why": "It gives no reason.", "grade": "0"' in system
    assert verdict.reward == 3.0


def test_a_decision_lists_its_levels(file, ledger):
    with serve(model=Echo().model) as server:
        settings = judge_settings("openai", server, rubric_file=file, mode="decision", permutations=3)
        (verdict,), _ = verdicts(settings, ledger, [planted(5.5)])
        bodies = list(server.bodies.values())
    assert verdict.reward == pytest.approx(2.0)
    for body in bodies:
        question = body["questions"]["grade"]
        assert sorted(question["criteria"]) == ["0: wrong", "1: right, but hard to follow", "2: right and clear"]
        assert "It gives no reason." in question["instructions"]
        assert "What the grades mean" not in question["instructions"]


def test_its_words_are_the_ledgers_and_its_place_is_not(file, ledger, tmp_path):
    verdicts(ScriptedJudge(rubric_file=file), ledger, ["Some words."])
    moved = file.rename(tmp_path / "moved.yaml")
    assert verdicts(ScriptedJudge(rubric_file=moved), ledger, ["Some words."])[1].annotations == 0
    for change in (("clear", "plain"), ("no reason", "nothing"), ("theorem", "proof")):
        moved.write_text(moved.read_text().replace(*change))
        assert verdicts(ScriptedJudge(rubric_file=moved), ledger, ["Some words."])[1].annotations == 1
    rows = list(readers.LedgerFile(ledger).rows())
    assert len({row.judge for row in rows}) == 4
    assert all("What the grades mean" in described(row)["rubric"] for row in rows)


def test_settings_hold_what_the_file_said(file, ledger):
    settings = ScriptedJudge(rubric_file=file)
    assert isinstance(settings.rubric, Rubric)
    assert settings.levels == 3
    file.unlink()
    with settings.open(ledger) as judge:
        assert judge.describe() == f"scripted-overlap in this process, mode logprobs, rubric {file}"
        assert judge.submit(completions(["Some words."])).result()[0].status == "ok"


def test_a_file_that_changed_is_noticed(file, ledger):
    settings = ScriptedJudge(rubric_file=file)
    file.write_text(MINE.replace("clear", "plain"))
    with pytest.raises(SettingError, match=r"is not the rubric that the run began with; .* judge\.rubric_file=null"):
        settings.open(ledger)
    file.write_text("- no\n")
    with pytest.raises(SettingError, match=r"judge\.rubric_file: .* expected `instructions`"):
        settings.open(ledger)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "expected `instructions`"),
        ("a: [", "not readable as YAML"),
        ("{}", "instructions: missing"),
        ("instructions: ' '", "instructions: empty"),
        ("instructions: [3]", "instructions: got [3], expected a valid string"),
        ("{instructions: x, level: [a]}", "level: there is no such setting; did you mean levels?"),
        ("{instructions: x, levels: [a]}", "levels: 1 are given; describe 2 to 10"),
        ("{instructions: x, levels: [a, ' ']}", "levels: each needs one line"),
        ("{instructions: x, levels: [a, {b: 1}]}", "levels.1: got {'b': 1}, expected a valid string"),
        (
            "{instructions: x, levels: [a, b], examples: [{prompt: p, completion: c, grade: 2}]}",
            "examples.0.grade: got 2, expected 0 to 1",
        ),
        (
            "{instructions: x, examples: [{prompt: p, completion: c, grade: -1}]}",
            "examples.0.grade: got -1, expected greater than or equal to 0",
        ),
        ("{instructions: x, examples: [{prompt: p, grade: 1}]}", "examples.0.completion: missing"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(text, said, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"mine\.yaml: ") as caught:
        read_rubric(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(SettingError, match=r"^x: judge: rubric_file: .*mine\.yaml: ") as caught:
        parse_judge(f"judge: {{name: scripted, rubric_file: {path}}}", where="x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rubric_text": "mine"}, "keep one"),
        ({"rubric": "tldr"}, "keep one"),
        ({"criteria": ({"name": "a", "instructions": "x"},)}, "keep one"),
        ({"levels": 5}, "levels is 5, but the rubric describes 3"),
    ],
)
def test_it_stands_alone(settings, told, file):
    with pytest.raises(ValueError, match=told):
        ScriptedJudge(rubric_file=file, **settings)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.yaml: there is no such file"):
        ScriptedJudge(rubric_file=tmp_path / "gone.yaml")


def test_levels_without_words_end_in_worst_and_best():
    scores = about_one(ScriptedJudge(mode="decision"), completions(["Words."])[0])[0].request.scores
    assert scores[0].levels[0] == Level(label="0", description="worst")
    assert scores[0].levels[9] == Level(label="9", description="best")
