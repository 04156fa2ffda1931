"""A judge before a server that takes so many requests a minute, over a real socket."""

import pytest

from dar_jax.chat.scripted.server import ServerSettings, serve
from tests.judging.sample_questions import Echo, completions, planted
from tests.wires import WIRES, judge_settings

# A bucket that saves up for a second: the first second may take twice its share.
A_SECOND, COUNT = 40, 160


@pytest.mark.parametrize("wire", WIRES[:1])
def test_a_servers_own_limit_is_found_and_no_judgement_fails(wire, tmp_path):
    """terminal-bench PR 59 lost 11 % of its verdicts at 1,000 at once: here nothing is told of the limit beforehand."""
    texts = [f"{planted(1 + i % 10)} {i}" for i in range(COUNT)]
    with serve(ServerSettings(port=0, requests_per_minute=A_SECOND * 60), Echo().model) as server:
        settings = judge_settings(wire, server, concurrency=64, attempts=2, deadline_s=120.0)
        with settings.open(tmp_path / "ledger.sqlite") as judge:
            found = judge.submit(completions(texts)).result()
            learnt = judge.lowered_per_minute
        turned_away, answered = server.rate_limited, server.answered
    assert [verdict.reward for verdict in found] == pytest.approx([1 + i % 10 for i in range(COUNT)])
    assert set(answered.values()) == {1}
    # At first 64 came at once, and those beyond the bucket were turned away; it has learnt from that.
    assert 0 < turned_away < COUNT
    assert learnt is not None
    assert sum(verdict.calls for verdict in found) == COUNT + turned_away


def test_a_rate_that_the_server_takes_is_never_turned_away(tmp_path):
    texts = [f"{planted(1 + i % 10)} {i}" for i in range(60)]
    with serve(ServerSettings(port=0, requests_per_minute=A_SECOND * 60), Echo().model) as server:
        settings = judge_settings("openai", server, concurrency=64, requests_per_minute=A_SECOND * 60 * 0.9)
        with settings.open(tmp_path / "ledger.sqlite") as judge:
            found = judge.submit(completions(texts)).result()
            assert judge.lowered_per_minute is None
        assert server.rate_limited == 0
    assert all(verdict.status == "ok" for verdict in found)
