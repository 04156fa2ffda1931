import pytest

from dar_jax.run import timeline as module
from dar_jax.run.timeline import Timeline


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on when told."""

    class Clock:
        now = 100.0

        def perf_counter(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_phases_add_up_and_what_ran_beside_them_does_not(clock):
    timeline = Timeline()
    timeline.begin()
    for phase, takes in (("sample", 2.0), ("regress", 1.0), ("sample", 0.5)):
        with timeline.timed(phase):
            clock.now += takes
    timeline.concurrent("judge", 101.0, 103.0)
    assert timeline.seconds() == {"sample": 2.5, "regress": 1.0, "step": 3.5}
    assert [tuple(row.values()) for row in timeline.rows(7)] == [
        (7, "sample", 0.0, 2.0),
        (7, "judge", 1.0, 3.0),
        (7, "regress", 2.0, 3.0),
        (7, "sample", 3.0, 3.5),
    ]
    timeline.begin()
    assert timeline.rows(8) == []
    assert timeline.seconds() == {"step": 0.0}
