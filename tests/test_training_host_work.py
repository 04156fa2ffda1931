"""Between updates the host waits for no device and exchanges once with other hosts; on two: multihost/test_training."""

import pytest

from dar_jax.config.config_file import parse_config
from dar_jax.training import train
from tests.host_work import between_updates, record_events
from tests.nano import AFTER_STEPS

UPDATES = 4


@pytest.fixture
def events(monkeypatch):
    return record_events(monkeypatch.setattr)


def test_nothing_is_fetched_behind_an_update(config_text, tmp_path, events):
    overrides = ["steps=2", "evaluation=null", "judge.canary_every=null", AFTER_STEPS]
    train(parse_config(config_text, overrides, where="test"), tmp_path / "run")
    assert "fetch" in events
    for step in range(2):
        assert between_updates(events, step, UPDATES) == ["update", "exchange"] * (UPDATES - 1)
    updates = [index for index, event in enumerate(events) if event == "update"]
    # From the end of one step's updates to that of the next: its logs, a save, sampling, the judge, its updates.
    of_step = events[updates[UPDATES - 1] + 1 : updates[2 * UPDATES - 1] + 1]
    assert of_step.count("exchange") <= 20
