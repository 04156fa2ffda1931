import math

import pytest

from dar_jax.chat.envelope import seal
from dar_jax.chat.failures import Rejected
from dar_jax.chat.scripted.rule import ScriptedModel, ScriptedWire, noisy
from dar_jax.chat.scripted.scorers import SCORERS
from dar_jax.chat.wire import Request
from dar_jax.records import Message

LABELS = tuple(str(i) for i in range(10))


def ask(value: float, **request):
    message = Message(role="user", content=seal({"prompt": "p", "completion": "c"}, LABELS))
    model = ScriptedModel(name="fixed", scorer=lambda prompt, completion: value)
    return model.answer(Request(messages=(message,), max_tokens=8, **request))


@pytest.mark.parametrize("value", [1.0, 1.25, 5.5, 9.9, 10.0])
def test_the_mean_of_the_log_probabilities_is_the_score(value):
    top = ask(value, top_logprobs=20).choices[0].top
    assert sum(int(t.token) * math.exp(t.logprob) for t in top) + 1 == pytest.approx(value)


def test_a_single_answer_is_the_nearest_level():
    assert [ask(value).choices[0].text for value in (1.0, 5.4, 5.6, 10.0)] == ["0", "4", "5", "9"]


def test_samples_are_seeded_by_content():
    def texts(seed):
        return [choice.text for choice in ask(5.5, n=50, temperature=1.0, seed=seed).choices]

    assert texts(1) == texts(1)
    assert set(texts(1)) == {"4", "5"}
    assert texts(1) != texts(2)


def test_it_answers_sealed_questions_only():
    model = ScriptedModel.named("overlap")
    with pytest.raises(Rejected):
        model.answer(Request(messages=(Message(role="user", content="How are you?"),), max_tokens=8))


def test_noise_is_the_same_for_the_same_texts_and_has_its_deviation():
    score = noisy(lambda prompt, completion: 5.0, 1.5)
    errors = [score("a post", f"summary {number}") - 5.0 for number in range(4000)]
    assert score("a post", "summary 0") - 5.0 == errors[0]
    assert score("another post", "summary 0") - 5.0 != errors[0]
    assert abs(sum(errors) / len(errors)) < 4 * 1.5 / math.sqrt(len(errors))
    assert math.sqrt(sum(error**2 for error in errors) / len(errors)) == pytest.approx(1.5, rel=0.05)


def test_the_noise_is_part_of_the_identity_and_0_is_the_scorer():
    wires = [ScriptedWire(scorer="overlap", noise=noise) for noise in (0.0, 0.5, 1.0)]
    assert [wire.model for wire in wires] == [f"scripted-overlap{end}" for end in ("", "-noise-0.5", "-noise-1.0")]
    assert len({wire.identity()["model"] for wire in wires}) == 3
    assert ScriptedModel.named("overlap").scorer is SCORERS["overlap"]
