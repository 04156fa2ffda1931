"""What opening a run says of its settings and data before anything is computed."""

import io

import pytest

from dar_jax.config.config_file import parse_config
from dar_jax.errors import SettingError
from dar_jax.run.build import open_session
from dar_jax.terminal.console import Console


def _opened(text, *overrides):
    file = io.StringIO()
    open_session(
        parse_config(text, ["learning.updates_per_batch=1", *overrides], where="run.yaml"), Console("plain", file)
    )
    return file.getvalue()


def test_fewer_prompts_than_a_step_takes_are_warned_of_once(config_text):
    said = _opened(config_text, "prompts_per_step=4096")
    assert said.count("prompts_per_step: got 4096, but the data has") == 1
    assert "but the data has" not in _opened(config_text, "prompts_per_step=1")


@pytest.mark.parametrize("greedy", ["sampling.temperature=0", "sampling.top_k=1"])
def test_completions_that_would_all_be_the_same_are_refused(config_text, greedy):
    with pytest.raises(SettingError, match=rf"{greedy.partition('=')[0]}: got [01], which makes the 4 completions"):
        _opened(config_text, "group_size=4", greedy)
    _opened(config_text, "group_size=1", "algorithm={name: dar, baseline: batch}", greedy)


def test_rows_that_do_not_divide_among_the_devices_are_warned_of(config_text):
    said = _opened(config_text, "mesh.devices=8", "learning.micro_batch_size=4")
    assert said.count("learning.micro_batch_size: 4 rows cannot be sharded over the 8 chips") == 1
