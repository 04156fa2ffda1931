"""The mini TL;DR scorer is exact and cannot be gamed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_jax.chat.scripted.scorers.minitldr import SLOT_OF, SLOTS, facts, reading, score
from dar_jax.data.minitldr import grammar

POST = (
    "POST: i am a nurse. the weather was cold all week. my brother sold my car. i had soup for lunch."
    " it happened at the gym. now i am so angry.\nTL;DR:"
)
BEST = "nurse here, my brother sold my car, at the gym, i feel angry."
numbers = st.integers(0, 10**6)


def truth_of(post: str) -> dict[str, str]:
    return dict(facts(post))


def test_the_facts_of_a_post() -> None:
    told = {word for _, word in facts(POST)}
    assert told == {"nurse", "brother", "sold", "car", "gym", "angry"}


def test_a_complete_summary_scores_10_and_an_empty_one_1() -> None:
    assert score(POST, BEST) == 10.0
    assert score(POST, "") == score(POST, "...") == score(POST, "so yeah") == 1.0


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ("my brother sold my car.", BEST),
        ("my brother did something.", "my brother sold something."),
        ("my brother sold something.", "my brother sold my car."),
        ("someone sold my car.", "my brother sold my car."),
        ("my sister sold my car.", "my brother sold my car."),
        ("my brother sold my car", "my brother sold my car."),
        ("my brother sold my car, and", "my brother sold my car"),
        ("anyway, my brother sold my car.", "my brother sold my car."),
        ("the weather was cold, my brother sold my car.", "my brother sold my car."),
        ("my brother sold my car, my brother sold my car.", "my brother sold my car."),
        ("my brother sold my car, on monday.", "my brother sold my car."),
        ("my brother sold my car,,.", "my brother sold my car."),
        ("should i sue them, my brother sold my car.", "my brother sold my car."),
    ],
)
def test_better_summaries_score_higher(worse: str, better: str) -> None:
    assert 1.0 < score(POST, worse) < score(POST, better) <= 10.0


EVERY_FACT = {
    "all words": " ".join(SLOT_OF) + ".",
    "all words with commas": ", ".join(SLOT_OF) + ".",
    "all feelings": ", ".join(f"i feel {word}" for word in SLOTS["feel"]) + ".",
    "all places": " ".join(f"at the {word}" for word in SLOTS["where"]) + ".",
    "the fact words alone": "nurse brother sold car gym angry.",
    "the post": POST,
    "the post twice": POST + POST,
    "one phrase again and again": "my brother sold my car, " * 5 + "my brother sold my car.",
    "marks": "." * 30,
    "the score itself": "10. this summary deserves a 10.",
}


@pytest.mark.parametrize("trick", EVERY_FACT)
def test_tricks_score_below_a_poor_summary(trick: str) -> None:
    assert score(POST, EVERY_FACT[trick]) < score(POST, "my brother sold something, so yeah") < 4


@given(numbers)
def test_copying_any_post_scores_low(number: int) -> None:
    post = grammar.row(0, "train", number)["prompt"]
    assert score(post, post) < 2.5
    assert score(post, post.removeprefix("POST: ").removesuffix("\nTL;DR:")) < 3.2


@given(numbers)
def test_every_post_can_be_summarised_perfectly(number: int) -> None:
    post = grammar.row(0, "test", number)["prompt"]
    assert score(post, grammar.summary(truth_of(post))) == 10.0


@given(numbers, st.data())
def test_another_covered_fact_raises_the_score_and_an_invented_one_lowers_it(number: int, data: st.DataObject) -> None:
    given_row = grammar.row(0, "train", number)
    post, said = given_row["prompt"], given_row["completion"]
    told = truth_of(post)
    slot = data.draw(st.sampled_from([slot for slot in grammar.OPTIONAL if slot in told]))
    right = grammar.SAID[slot].format(**told)
    wrong_word = data.draw(st.sampled_from([word for word in SLOTS[slot] if word != told[slot]]))
    wrong = grammar.SAID[slot].format(**{slot: wrong_word})
    known = reading(said).facts
    if (slot, told[slot]) not in known:
        assert score(post, f"{right}, {said}") > score(post, said)
    if (slot, wrong_word) not in known and reading(said).facts & facts(post):
        assert score(post, f"{wrong}, {said}") < score(post, said)


@given(st.text(), st.text())
def test_any_two_texts_get_a_score(prompt: str, completion: str) -> None:
    assert 1.0 <= score(prompt, completion) <= 10.0


def test_no_word_is_in_two_slots() -> None:
    assert len(SLOT_OF) == sum(map(len, SLOTS.values()))
    surroundings = [*grammar.ASIDES, *grammar.FILLERS, *grammar.LOOSE_ENDS]
    surroundings += [word for listed in grammar.ASIDE_WORDS.values() for word in listed]
    assert not facts(" ".join(surroundings))


def test_demonstrations_are_flawed_in_many_ways() -> None:
    rows = [grammar.row(0, "train", number) for number in range(2000)]
    scores = sorted(score(row["prompt"], row["completion"]) for row in rows)
    assert 4.5 < sum(scores) / len(scores) < 6.0
    assert len(set(scores)) > 100
    assert sum(value > 9.99 for value in scores) < 0.06 * len(scores)
