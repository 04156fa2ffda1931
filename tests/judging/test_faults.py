"""A judge that fails in every way at once: what reaches the trainer, what is billed, what is counted."""

import contextlib
import sqlite3
import time
from collections import Counter

import pytest

from dar_jax.chat.scripted.faults import FAULTS
from dar_jax.chat.scripted.server import Server, ServerSettings, serve
from dar_jax.judging.money.spent import Totals
from dar_jax.records import Verdict
from tests.judging.sample_questions import Echo, completions, planted
from tests.wires import WIRES, judge_settings

# Shares of all calls, together about a quarter. What makes everyone wait for a second is rarer.
RARE = {"hang": 0.0005, "drip": 0.0005, "rate_limit_retry_date": 0.0005}
MIX = dict.fromkeys(sorted(set(FAULTS) - set(RARE)), 0.01)
NOT_OK = {"refused", "blocked", "truncated", "unparsable", "failed", "timeout"}


def levels(count: int) -> list[float]:
    return [1 + (i * 37 % 901) / 100 for i in range(count)]


def judged(wire: str, server: Server, ledger, truth: list[float], steps: int, **settings):
    """Judge completions of known worth in some steps, as a trainer does."""
    texts = [planted(level) + f" Number {i}." for i, level in enumerate(truth)]
    found: list[Verdict] = []
    with judge_settings(wire, server, **settings).open(ledger) as judge:
        for step in range(steps):
            found += judge.submit(completions(texts[step::steps])).result()
    return found, [level for step in range(steps) for level in truth[step::steps]], judge.totals


def assert_nothing_is_invented_or_lost(
    found: list[Verdict], truth: list[float], totals: Totals, server: Server, ledger
) -> None:
    assert len(found) == len(truth)
    for verdict, level in zip(found, truth, strict=True):
        assert verdict.status in NOT_OK or verdict.reward == pytest.approx(level)
        assert (verdict.reward is None) == bool(verdict.reason)
    statuses = Counter(verdict.status for verdict in found)
    assert statuses.pop("ok") + sum(totals.failures.values()) == len(found)
    assert totals.failures == statuses
    # The server's own count of what it delivered whole is what is filed, each once, and nothing else is.
    with contextlib.closing(sqlite3.connect(ledger)) as filed:
        stored, questions = filed.execute("SELECT count(*), count(DISTINCT completion) FROM answers").fetchone()
    assert set(server.answered.values()) == {1}
    assert stored == questions == server.answered.total() == totals.annotations
    # A filter that turns a request away names no model.
    assert totals.annotations == sum(1 for verdict in found if verdict.served_model or verdict.status == "blocked")


@pytest.mark.parametrize("wire", WIRES)
def test_a_random_mix_of_faults_invents_nothing(wire, tmp_path):
    ledger, settings = tmp_path / "ledger.sqlite", ServerSettings(port=0, faults=MIX, retry_after_s=0.1, seed=3)
    with serve(settings, Echo().model) as server:
        found, truth, totals = judged(wire, server, ledger, levels(200), 1, concurrency=64, attempts=2, deadline_s=6.0)
        assert_nothing_is_invented_or_lost(found, truth, totals, server, ledger)
    assert len({verdict.status for verdict in found}) > 4


@pytest.mark.slow
def test_twenty_thousand_judgements_under_faults(tmp_path):
    ledger, settings = tmp_path / "ledger.sqlite", ServerSettings(port=0, faults=MIX | RARE, retry_after_s=0.02, seed=1)
    with serve(settings, Echo().model) as server:
        patience = {"attempt_timeout_s": 20.0, "deadline_s": 120.0, "attempts": 4}
        found, truth, totals = judged("openai", server, ledger, levels(20_000), 5, concurrency=128, **patience)
        assert_nothing_is_invented_or_lost(found, truth, totals, server, ledger)
    assert {verdict.status for verdict in found} >= NOT_OK - {"timeout"}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("fault", ["missing_index", "closed_idle", "drip"])
def test_what_is_odd_but_whole_counts(wire, fault, tmp_path):
    """A choice without its number, a connection that is dead for the next call, a slow answer: rewards all the same."""
    settings = ServerSettings(port=0, faults={fault: 1.0}, drip_s=0.05)
    with serve(settings, Echo().model) as server:
        ledger = tmp_path / "ledger.sqlite"
        found, truth, totals = judged(
            wire, server, ledger, [1.0, 10.0, 4.0, 7.0, 2.0, 5.0], 3, attempts=4, mode="samples"
        )
        assert_nothing_is_invented_or_lost(found, truth, totals, server, ledger)
    assert {verdict.status for verdict in found} == {"ok"}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("fault", ["wrong_index", "repeated_index"])
def test_samples_that_were_not_asked_for_are_no_reward(wire, fault, tmp_path):
    """ART RULER matched by position: an answer whose numbers do not fit gives nothing, and says which."""
    with serve(ServerSettings(port=0, faults={fault: 1.0})) as server:
        settings = judge_settings(wire, server, mode="samples")
        with settings.open(tmp_path / "ledger.sqlite") as judge:
            (verdict,) = judge.submit(completions(["One."])).result()
    assert verdict.status == "unparsable"
    assert "the answer holds choice" in verdict.reason


@pytest.mark.parametrize("wire", WIRES[:2])
def test_a_clock_that_jumps_changes_nothing(wire, tmp_path, monkeypatch):
    """Deadlines, rates and waits go by the clock that cannot be set; the server's dates by the server's own."""
    real, began = time.time, time.monotonic()
    # The clock of this process is set a day ahead or back twice a second; the server's is an hour ahead besides.
    monkeypatch.setattr(time, "time", lambda: real() + 86_400.0 * (int(2 * (time.monotonic() - began)) % 3 - 1))
    settings = ServerSettings(
        port=0, faults={"rate_limit_retry_date": 1.0}, fault_attempts=1, retry_after_s=1.0, clock_ahead_s=3600.0
    )
    with serve(settings, Echo().model) as server:
        ledger, started = tmp_path / "ledger.sqlite", time.monotonic()
        found, truth, totals = judged(wire, server, ledger, levels(3), 1, requests_per_minute=3000.0)
        assert 0.99 < time.monotonic() - started < 60.0
        assert_nothing_is_invented_or_lost(found, truth, totals, server, ledger)
        assert set(server.asked.values()) == {2}
    assert {verdict.status for verdict in found} == {"ok"}
