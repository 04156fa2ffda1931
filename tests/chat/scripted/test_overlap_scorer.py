import hypothesis.strategies as st
import pytest
from hypothesis import given

from dar_jax.chat.scripted.scorers.overlap import content_words, score

BODY = """The mean is the sum of the data divided by the number of data points. It is commonly called the average,
although it is only one of many averages. If the data is empty, StatisticsError is raised."""


@given(st.text(), st.text())
def test_any_text_has_a_score_on_the_scale(prompt, completion):
    assert 1.0 <= score(prompt, completion) <= 10.0


def test_better_lines_score_higher():
    good = score(BODY, "Return the mean, or average, of the data points.")
    vague = score(BODY, "Return the data.")
    invented = score(BODY, "Return the mean of the purple elephants in Alaska.")
    rambling = score(BODY, BODY)
    assert good > 7 > vague > invented > score(BODY, "Bake a cake.") == 1.0
    assert good > rambling


def test_a_complete_sentence_scores_higher():
    assert score(BODY, "Return the mean of the data.") > score(BODY, "Return the mean of the data")


def test_repetition_lowers_the_score():
    assert score(BODY, "Mean data data data data.") < score(BODY, "Mean data.")


@pytest.mark.parametrize("text", ["", " \n", "...", "the of and"])
def test_a_summary_without_content_words_scores_1(text):
    assert score(BODY, text) == 1.0


def test_words_are_compared_by_their_stem():
    assert content_words("Averages averaging") == ["averag", "averag"]
