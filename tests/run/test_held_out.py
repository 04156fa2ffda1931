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


def _said(completions):
    return [completions[row].text for row in range(len(completions))]


def test_both_speak_to_the_same_prompts_at_the_same_random_numbers(session, start):
    held_out = HeldOut(session)
    completions = held_out.completions(lambda: start, lambda: start)
    said = _said(completions)
    assert said[:5] == said[5:]
    assert len(set(said[:5])) > 1
    assert [completions[row].prompt for row in range(10)] == held_out.prompts * 2


def test_what_the_start_says_is_sampled_once_a_run(session, start):
    held_out, laid_out = HeldOut(session), []
    moved = jax.tree.map(lambda leaf: leaf * 1.5, start)

    def of_start():
        laid_out.append(1)
        return start

    at_first = _said(held_out.completions(lambda: start, of_start))
    later = _said(held_out.completions(lambda: moved, of_start))
    assert (later[:5] == at_first[:5], later[5:] == at_first[5:]) == (False, True)
    assert laid_out == [1]
