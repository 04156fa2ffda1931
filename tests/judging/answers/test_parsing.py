import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_jax.chat.wire import Alternative, Answer, AnswerChoice
from dar_jax.judging.answers.parsing import Unusable, grammar, read, read_scores
from dar_jax.judging.questions.protocol import Protocol
from dar_jax.records import Distribution

PROTOCOL = Protocol(rubric="r")


def answer(*texts: str | None, finish="stop", top=None) -> Answer:
    choices = tuple(AnswerChoice(text=text, finish=finish, finish_name=finish, top=top) for text in texts)
    return Answer(choices=choices, served_model="m")


def single(text: str | None) -> Distribution | Unusable:
    return read(answer(text), PROTOCOL, "single", 0.5)


def alternatives(**probabilities: float) -> tuple[Alternative, ...]:
    return tuple(Alternative(token=t, logprob=math.log(p)) for t, p in probabilities.items())


@given(st.text())
def test_no_string_gives_a_wrong_reward(text):
    """open-instruct read "8/10" as 0.0 and "80" as 8: a reply is one digit, in either form, or nothing."""
    found = single(text)
    bare = text.strip(" \t\r\n")
    if bare in {str(level) for level in range(10)}:
        assert found.mean == int(bare) + 1
    else:
        assert isinstance(found, Unusable)


@given(st.integers(), st.sampled_from(["{}", '{{"score": {}}}', '{{"score": "{}"}}', " {}\n"]))
def test_only_levels_on_the_scale_count(level, form):
    found = single(form.format(level))
    if 0 <= level <= 9:
        assert found.mean == level + 1
    else:
        assert found.status == "unparsable"


NUMBERS = ["8/10", "80", "-3", "10", "7.5", "7.", "+7", "07", "1e0", "7 8", "7\n7"]
WORDS = ["Score: 7", "**7**", "seven", "nan", "null", "True", "''", ".", "", " ", "[7]", "{}"]
OTHER_DIGITS = ["\u0667", "\uff17", "\u00b2", "\u00a07"]
OTHER_JSON = ['"7"', '{"score": 7.0}', '{"score": -1}', '{"score": 7, "score": 9}']


@pytest.mark.parametrize("text", [*NUMBERS, *WORDS, *OTHER_DIGITS, *OTHER_JSON])
def test_near_misses_are_unparsable(text):
    assert single(text).status == "unparsable"


@pytest.mark.parametrize("text", ['{"score": 7} 8', '{"grade": 7}', '{"score": [7]}', '{"score": null}', '{"score": 7'])
def test_other_objects_are_unparsable(text):
    assert single(text).status == "unparsable"


def test_the_lowest_level_is_a_reward_not_a_gap():
    """OpenRLHF#1219: a legitimate lowest answer is a number; nothing is not."""
    assert single("0").mean == 1.0
    assert single(None).status == "unparsable"


def test_levels_off_a_shorter_scale_are_unparsable():
    short = Protocol(rubric="r", count=5)
    assert read(answer("4"), short, "single", 0.5).mean == 5.0
    assert read(answer("5"), short, "single", 0.5).status == "unparsable"


@pytest.mark.parametrize(
    ("finish", "status"),
    [("length", "truncated"), ("refusal", "refused"), ("blocked", "blocked"), ("unknown", "unparsable")],
)
@pytest.mark.parametrize("mode", ["single", "logprobs", "samples"])
def test_only_a_finished_answer_counts(finish, status, mode):
    top = alternatives(**{"7": 1.0})
    assert read(answer("7", finish=finish, top=top), PROTOCOL, mode, 0.5).status == status


@pytest.mark.parametrize("mode", ["single", "logprobs", "samples"])
def test_blocks_and_empty_answers_are_missing(mode):
    assert read(Answer(choices=(), served_model="m"), PROTOCOL, mode, 0.5).status == "unparsable"
    blocked = Answer(choices=(), served_model="m", blocked="SPII")
    assert read(blocked, PROTOCOL, mode, 0.5).status == "blocked"


def test_the_documented_example_of_an_expected_value():
    """method.md 4.4: these probabilities of 1 to 10 give 7.01."""
    weights = [0.01, 0.01, 0.02, 0.03, 0.08, 0.15, 0.30, 0.25, 0.10, 0.05]
    top = alternatives(**{str(level): weight for level, weight in enumerate(weights)})
    assert read(answer("6", top=top), PROTOCOL, "logprobs", 0.5).mean == pytest.approx(7.01)


def test_variants_of_a_digit_are_one_answer():
    top = alternatives(**{"7": 0.3, " 7": 0.2, "\u01207": 0.1, "\u25817": 0.1, "8": 0.2, "78": 0.05, "7.": 0.05})
    found = read(answer("7", top=top), PROTOCOL, "logprobs", 0.5)
    assert found.mass == pytest.approx(0.9)
    assert found.probabilities[7] == pytest.approx(0.7 / 0.9)


def test_too_little_mass_is_unparsable():
    top = alternatives(**{"7": 0.4, "The": 0.6})
    found = read(answer("7", top=top), PROTOCOL, "logprobs", 0.5)
    assert found.status == "unparsable"
    assert "40%" in found.reason
    assert "mass_floor" in found.reason
    assert read(answer("7", top=top), PROTOCOL, "logprobs", 0.3).mean == 8.0


@pytest.mark.parametrize("mass_floor", [0.0, 0.5])
def test_no_mass_at_all_is_never_a_reward(mass_floor):
    top = (Alternative(token="The", logprob=0.0),)
    assert read(answer("7", top=top), PROTOCOL, "logprobs", mass_floor).status == "unparsable"
    assert read(answer("7", top=()), PROTOCOL, "logprobs", mass_floor).status == "unparsable"


def test_missing_log_probabilities_are_a_fault_of_the_judge():
    found = read(answer("7"), PROTOCOL, "logprobs", 0.5)
    assert found.status == "unparsable"
    assert "judge.mode" in found.reason


def test_the_text_must_be_a_digit_for_its_probabilities_to_count():
    """A judge that says "10" or "8/10" begins with a digit: that is not its grade."""
    top = alternatives(**{"1": 0.9, "8": 0.1})
    assert read(answer("10", top=top), PROTOCOL, "logprobs", 0.5).status == "unparsable"


@given(st.lists(st.floats(-30, 0), min_size=1, max_size=10))
def test_any_distribution_has_its_mean_on_the_scale(logprobs):
    total = math.log(sum(map(math.exp, logprobs)))
    top = tuple(Alternative(token=str(level), logprob=value - total) for level, value in enumerate(logprobs))
    found = read(answer("0", top=top), PROTOCOL, "logprobs", 0.0)
    assert 1.0 <= found.mean <= 10.0
    assert sum(found.probabilities) == pytest.approx(1.0)


@pytest.mark.parametrize(("total", "status"), [(0.99, "ok"), (1.01, "ok"), (1.1, "unparsable"), (2.0, "unparsable")])
def test_more_than_the_whole_is_no_distribution(total, status):
    """Also where what is too much lies on other tokens than the levels."""
    for other in ("8", "The"):
        top = alternatives(**{"7": total / 2, other: total / 2})
        found = read(answer("7", top=top), PROTOCOL, "logprobs", 0.4)
        assert ("ok" if isinstance(found, Distribution) else found.status) == status
    scores = [{"name": "q", "weight": 1.0, "levels": [{"label": str(level)} for level in range(2)]}]
    choice = AnswerChoice(text="0", finish="stop", probabilities=(total / 2, total / 2))
    found = read_scores(Answer(choices=(choice,), served_model="m"), scores, 0.4)
    assert ("ok" if isinstance(found, Distribution) else found.status) == status


def test_the_reply_is_among_the_tokens_that_count():
    found = read(answer("7", top=alternatives(**{"1": 0.9, "8": 0.1})), PROTOCOL, "logprobs", 0.5)
    assert found.reason == "log-probabilities of other tokens than the reply's, reply '7'"
    assert read(answer("7", top=()), PROTOCOL, "logprobs", 0.5).reason == found.reason


def test_samples_are_averaged():
    found = read(answer("7", "8", "8", "9"), PROTOCOL, "samples", 0.5, asked=4)
    assert found.mean == 9.0
    assert found.mass == 1.0


def test_unusable_samples_are_left_out_and_counted():
    assert read(answer("7", "8", "x", None), PROTOCOL, "samples", 0.5, asked=4).mean == 8.5
    assert read(answer("7", "y", "x", None), PROTOCOL, "samples", 0.5, asked=4).status == "unparsable"


def test_a_server_that_ignores_n_is_seen():
    found = read(answer("7"), PROTOCOL, "samples", 0.5, asked=8)
    assert found.status == "unparsable"
    assert "of the 8 answers asked for are usable, 1 came" in found.reason


@given(st.text(max_size=2000))
def test_reasons_are_short(text):
    found = single(text)
    assert isinstance(found, Distribution) or len(found.reason) < 400


@given(st.integers(0, 9), st.sampled_from(["", " ", "\n "]))
def test_both_forms_of_a_closed_answer_are_read(level, space):
    assert grammar(space + json.dumps({"score": level})) == str(level)
    assert grammar(json.dumps({"score": str(level)}) + space) == str(level)
