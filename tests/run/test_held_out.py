import jax
import pytest

from dar_jax.config.config_file import parse_config
from dar_jax.run.build import open_session
from dar_jax.run.held_out import HeldOut
from dar_jax.terminal.console import Console


@pytest.fixture
def session(config_text):
    return open_session(parse_config(config_text, ["evaluation.prompts=5"], where="run.yaml"), Console("quiet"))


@pytest.fixture
def start(session):
    return session.start_params(Console("quiet"))


def _texts(completions):
    return [completions[row].text for row in range(len(completions))]


def test_both_answer_the_same_prompts_with_the_same_random_keys(session, start):
    held_out, learner = HeldOut(session), session.learner
    completions = held_out.completions(learner.init(start), learner.reference(start))
    texts = _texts(completions)
    assert texts[:5] == texts[5:]
    assert len(set(texts[:5])) > 1
    assert [completions[row].prompt for row in range(10)] == held_out.prompts * 2


def test_the_initial_policy_is_sampled_once_a_run(session, start, monkeypatch):
    held_out, learner, resharded = HeldOut(session), session.learner, []
    initial, moved = learner.reference(start), jax.tree.map(lambda leaf: leaf * 1.5, start)
    original = learner.decode_reference
    monkeypatch.setattr(learner, "decode_reference", lambda params: resharded.append(1) or original(params))
    first = _texts(held_out.completions(learner.init(start), initial))
    later = _texts(held_out.completions(learner.init(moved), initial))
    assert (later[:5] == first[:5], later[5:] == first[5:]) == (False, True)
    assert resharded == [1]
