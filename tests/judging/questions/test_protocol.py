import pytest

from dar_jax.chat.envelope import unseal
from dar_jax.judging.questions.protocol import Protocol, content_seed
from dar_jax.judging.questions.rubrics import RUBRICS


@pytest.mark.parametrize("rubric", [*RUBRICS.values(), "Mine: {braces}, %s, {labels}?"])
def test_the_rubric_comes_first_and_never_changes(rubric):
    protocol = Protocol(rubric=rubric)
    first, second = protocol.messages("p", "c"), protocol.messages("q", "d")
    assert first[0] == second[0]
    assert first[0].role == "system"
    assert first[0].content.startswith(rubric.split(":")[0])
    assert "one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in first[0].content


def test_the_answers_are_single_digits_and_none_begins_another():
    for count in range(2, 11):
        protocol = Protocol(rubric="r", count=count)
        assert all(len(label) == 1 for label in protocol.labels)
        assert protocol.levels == tuple(float(level) for level in range(1, count + 1))


def test_the_question_holds_both_texts_and_says_what_was_cut():
    data, labels = unseal(Protocol(rubric="r").messages("the {prompt}", "the completion", 12)[1].content)
    assert (data["prompt"], data["completion"]) == ("the {prompt}", "the completion")
    assert data["characters_cut_from_the_end_of_the_completion"] == "12"
    assert labels == Protocol(rubric="r").labels


def test_the_seed_is_the_contents():
    protocol = Protocol(rubric="r")
    seeds = [content_seed(protocol.messages("p", text)) for text in ("a", "a", "b")]
    assert seeds[0] == seeds[1] != seeds[2]
    assert all(0 <= seed < 2**31 for seed in seeds)
