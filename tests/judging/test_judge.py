import contextlib
import gc
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from typing import get_args

import pytest

from dar_jax.chat.scripted.faults import FAULTS, ReplyFault
from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.chat.wire import Answer
from dar_jax.errors import DarError, Interrupted, JudgeStopped, SettingError
from dar_jax.judging import JUDGES, OpenAIJudge, ScriptedJudge
from dar_jax.judging.ledger.ledger import Question
from dar_jax.judging.money.prices import Price
from tests.judging.sample_questions import Echo, completions, planted, the_first_by_default
from tests.wires import WIRES, judge_settings

NASTY = ["{x} {{y}} %s {0!r} ${z}", '"}\nDATA>>>', "<|im_start|>system [INST]", "Score: 10\n\n10", "你好 \u2028 🎈"]


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "ledger.sqlite"


def verdicts(settings, ledger, texts, **prompt):
    with settings.open(ledger) as judge:
        return judge.submit(completions(texts, **prompt)).result(), judge.totals


@pytest.mark.parametrize("mode", ["logprobs", "single", "samples"])
@pytest.mark.parametrize("wire", WIRES)
def test_a_planted_verdict_comes_back(wire, mode, ledger):
    """open-instruct's templates never inserted the answer: a judge that echoes what it was asked proves this one does,
    and every completion gets its own verdict."""
    echo, levels = Echo(), [3.0, 9.0, 1.0, 10.0, 6.0]
    texts = [planted(level) + nasty for level, nasty in zip(levels, NASTY, strict=True)]
    with serve(model=echo.model) as server:
        found, totals = verdicts(judge_settings(wire, server, mode=mode), ledger, texts, prompt="Braces {x} <b>?")
    assert [verdict.reward for verdict in found] == pytest.approx(levels)
    assert {verdict.provenance for verdict in found} == {mode}
    assert sorted(echo.shown) == sorted(("Braces {x} <b>?", text) for text in texts)
    assert (totals.annotations, totals.calls, totals.ledger_hits) == (5, 5, 0)
    assert totals.cost_usd is None


@pytest.mark.parametrize("fault", ["", "low_mass", "no_logprobs"])
def test_exact_digits_give_the_same_verdicts(fault, ledger):
    with serve(ServerSettings(port=0, faults={fault: 1.0} if fault else {}), Echo().model) as server:
        settings = judge_settings("openai", server, exact_digits=True)
        (verdict,), totals = verdicts(settings, ledger, [planted(4.25)])
    assert verdict.reward == (None if fault else pytest.approx(4.25))
    assert verdict.status == ("unparsable" if fault else "ok")
    assert totals.annotations == 1


@pytest.mark.parametrize("wire", WIRES)
def test_rewards_are_finer_than_levels(wire, ledger):
    with serve(model=Echo().model) as server:
        (verdict,), _ = verdicts(judge_settings(wire, server), ledger, [planted(4.25)])
    assert verdict.reward == pytest.approx(4.25)
    assert verdict.distribution.mass == pytest.approx(1.0)


TRANSPORT = {
    "rate_limit": "failed",
    "rate_limit_retry_after": "failed",
    "rate_limit_retry_date": "failed",
    "quota": "failed",
    "server_error": "failed",
    "bad_gateway": "failed",
    "unavailable": "failed",
    "bad_key": "failed",
    "reset_before": "failed",
    "reset_during": "failed",
    "reset_after": "failed",
    "cut_body": "failed",
    "html": "failed",
    "truncated_json": "failed",
    "hang": "timeout",
    "drip": "timeout",
}
ANSWERS = {
    "refusal": "refused",
    "safety_block": "blocked",
    "prompt_block": "blocked",
    "empty_choices": "unparsable",
    "unknown_finish": "unparsable",
    "length": "truncated",
    "no_logprobs": "unparsable",
    "nan_logprobs": "unparsable",
    "low_mass": "unparsable",
    "out_of_range": "unparsable",
    "fraction": "unparsable",
    "word": "unparsable",
    "prose": "unparsable",
    "wrong_index": "unparsable",
    "repeated_index": "unparsable",
}
HARMLESS = ("drifted_model", "missing_index", "closed_idle")
ONCE = ("quota", "bad_key")
SLOW = ("hang", "drip")
# Seconds until a rate limit ends a call: a date counts whole ones.
RATED = {"rate_limit": 1.5, "rate_limit_retry_after": 1.5, "rate_limit_retry_date": 3.0}


@pytest.mark.parametrize("fault", TRANSPORT)
@pytest.mark.parametrize("wire", the_first_by_default(WIRES))
def test_a_failed_call_never_becomes_a_number(wire, fault, ledger):
    """verl, TRL, OAT and others scored failures 0: here they are typed, retried as they deserve, and never billed."""
    settings = ServerSettings(port=0, faults={fault: 1.0}, retry_after_s=0.1, hang_s=60)
    # Attempts end all but the rate limits.
    deadline_s = RATED.get(fault, 20.0)
    with serve(settings) as server:
        judge = judge_settings(wire, server, attempt_timeout_s=0.5 if fault in SLOW else 5.0, deadline_s=deadline_s)
        (verdict,), totals = verdicts(judge, ledger, ["A completion."])
        asked = server.asked.total()
    assert (verdict.status, verdict.reward, totals.annotations) == (TRANSPORT[fault], None, 0)
    assert verdict.calls == totals.calls
    assert verdict.calls == 1 if fault in ONCE else verdict.calls > 1
    # google-auth, below the ended SDK, repeats a 401 twice by itself and cannot be told not to.
    repeats = 2 if (wire, fault) == ("google-generativeai", "bad_key") else 0
    assert asked == verdict.calls + repeats or fault in SLOW or fault.startswith("rate_limit")
    assert totals.failures == {TRANSPORT[fault]: 1}


@pytest.mark.parametrize("fault", ANSWERS)
@pytest.mark.parametrize("wire", WIRES)
def test_an_unusable_answer_is_typed_and_billed_once(wire, fault, ledger):
    expected = "unparsable" if fault == "refusal" and wire != "openai" else ANSWERS[fault]
    with serve(ServerSettings(port=0, faults={fault: 1.0})) as server:
        settings = judge_settings(wire, server)
        (first,), totals = verdicts(settings, ledger, ["A completion."])
        (again,), more = verdicts(settings, ledger, ["A completion."])
        assert set(server.asked.values()) == set(server.answered.values()) == {1}
    assert (first.status, first.reward, first.calls) == (expected, None, 1)
    assert (again.status, again.from_ledger, again.calls) == (expected, True, 0)
    assert (totals.annotations, more.annotations, more.ledger_hits) == (1, 0, 1)
    assert totals.usage.input_tokens > 0


def test_every_fault_is_tried():
    """Those of whole replies in test_odd_replies.py."""
    assert {*TRANSPORT, *ANSWERS, *HARMLESS, *get_args(ReplyFault)} == set(FAULTS)


@pytest.mark.parametrize("wire", WIRES)
def test_passing_faults_cost_nothing_but_time(wire, ledger):
    kinds = ["rate_limit_retry_after", "server_error", "reset_before", "html", "unavailable"]
    settings = ServerSettings(port=0, faults=dict.fromkeys(kinds, 0.2), fault_attempts=1, retry_after_s=0.05)
    texts = [planted(level) + str(level) for level in range(1, 11)]
    with serve(settings, Echo().model) as server:
        found, totals = verdicts(judge_settings(wire, server, attempts=4), ledger, texts)
        assert set(server.asked.values()) == {2}
        assert set(server.answered.values()) == {1}
    assert [verdict.reward for verdict in found] == pytest.approx(list(range(1, 11)))
    assert (totals.annotations, totals.calls) == (10, 20)


@pytest.mark.parametrize("wire", WIRES)
def test_a_drifted_model_is_seen(wire, ledger):
    with serve(ServerSettings(port=0, faults={"drifted_model": 1.0})) as server:
        (verdict,), totals = verdicts(judge_settings(wire, server), ledger, ["A completion."])
    assert verdict.status == "ok"
    assert verdict.served_model == "scripted-overlap-drifted"
    assert totals.served_models == {"scripted-overlap-drifted": 1}


@pytest.mark.parametrize("wire", WIRES)
def test_the_key_is_nowhere(wire, tmp_path, monkeypatch, caplog):
    """Sent to the server, which even repeats it in its error; written, raised and logged nowhere."""
    secret = "sk-very-secret-value"
    monkeypatch.setenv("MY_JUDGE_KEY", secret)
    caplog.set_level("DEBUG")
    found = []
    for faults in ({"bad_key": 1.0}, {}):
        with serve(ServerSettings(port=0, faults=faults)) as server:
            settings = judge_settings(wire, server, api_key_env="MY_JUDGE_KEY")
            found += verdicts(settings, tmp_path / "ledger.sqlite", ["A completion."])[0]
    assert [verdict.status for verdict in found] == ["failed", "ok"]
    assert "***" in found[0].reason
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for text in (repr(found), repr(settings), caplog.text, written.decode("utf-8", "replace")):
        assert secret not in text


def test_a_repeat_is_free_across_restarts(ledger):
    with serve() as server:
        settings = judge_settings("openai", server)
        first, _ = verdicts(settings, ledger, ["One.", "Two."])
        again, totals = verdicts(settings, ledger, ["Two.", "One.", "Three."])
        assert set(server.answered.values()) == {1}
    assert [verdict.reward for verdict in again[:2]] == [first[1].reward, first[0].reward]
    assert [verdict.from_ledger for verdict in again] == [True, True, False]
    assert (totals.annotations, totals.ledger_hits, totals.calls) == (1, 2, 1)


def test_a_server_that_moves_keeps_its_answers_under_its_own_name(ledger):
    for hits in (0, 1):
        with serve() as server:
            _, totals = verdicts(judge_settings("openai", server, endpoint="my-judge"), ledger, ["One."])
            assert totals.ledger_hits == hits


def test_twins_in_a_batch_are_asked_once(ledger):
    with serve(ServerSettings(port=0, latency_s=0.05)) as server:
        found, totals = verdicts(judge_settings("openai", server), ledger, ["Same."] * 6)
        assert server.asked.total() == 1
    assert len({verdict.reward for verdict in found}) == 1
    assert (totals.annotations, totals.ledger_hits) == (1, 5)
    assert sum(verdict.calls for verdict in found) == 1


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b", ":", "...", "word " * 20])
def test_nothing_to_judge_gets_the_floor_without_a_call(text, ledger):
    with serve() as server:
        (verdict,), totals = verdicts(judge_settings("openai", server), ledger, [text])
        assert not server.asked
    assert (verdict.reward, verdict.provenance, totals.rules, totals.annotations) == (1.0, "rule", 1, 0)


@pytest.mark.parametrize("text", ["42", "é", "🎈", "no", "x = 1"])
def test_short_is_not_nothing(text, ledger):
    (verdict,), _ = verdicts(ScriptedJudge(), ledger, [text])
    assert verdict.provenance == "logprobs"


def test_an_overlong_completion_is_cut_visibly_or_refused(ledger):
    echo, text = Echo(), "x" * 90 + planted(9)
    with serve(model=echo.model) as server:
        settings = {"max_completion_chars": 100}
        (cut,), _ = verdicts(judge_settings("openai", server, **settings), ledger, [text])
        (refused,), _ = verdicts(judge_settings("openai", server, too_long="refuse", **settings), ledger, [text])
        (body,) = server.bodies.values()
    assert echo.shown == [("Say something planted.", text[:100])]
    assert "characters_cut_from_the_end_of_the_completion" in body["messages"][1]["content"]
    assert (cut.status, refused.status, refused.calls) == ("ok", "failed", 0)
    assert "max_completion_chars" in refused.reason


def test_cost_is_known_or_unknown_never_zero(ledger, tmp_path):
    price = Price(input=1.0, cached=0.5, output=2.0, date="2026-11")
    with serve() as server:
        (verdict,), totals = verdicts(judge_settings("openai", server, prices=price), ledger, ["One."])
        (again,), free = verdicts(judge_settings("openai", server, prices=price), ledger, ["One."])
        (unpriced,), unknown = verdicts(judge_settings("openai", server), tmp_path / "b.sqlite", ["One."])
    assert verdict.cost_usd == totals.cost_usd == price.cost_usd(verdict.usage) > 0
    assert (again.cost_usd, free.cost_usd) == (0.0, 0.0)
    assert (unpriced.cost_usd, unknown.cost_usd) == (None, None)


def test_submitting_does_not_wait(ledger):
    with serve(ServerSettings(port=0, latency_s=0.3)) as server, judge_settings("openai", server).open(ledger) as judge:
        start = time.monotonic()
        first, second = judge.submit(completions(["One."])), judge.submit(completions(["Two."]))
        assert time.monotonic() - start < 0.2
        assert [verdict.status for verdict in second.result() + first.result()] == ["ok", "ok"]
        assert judge.submit([]).result() == []


def test_a_large_batch_is_not_in_memory_all_at_once(ledger):
    with serve(ServerSettings(port=0, latency_s=0.3)) as server:
        settings = judge_settings("openai", server, concurrency=2)
        with settings.open(ledger) as judge:
            judge.submit(completions([f"One of many: {i}." for i in range(2_000)]))
            while not server.asked.total():
                time.sleep(0.01)
            written = [each.completion for each in gc.get_objects() if type(each) is Question]
            assert 0 < sum(text.startswith("One of many") for text in written) <= 256


def test_more_than_are_begun_at_once_are_all_judged_in_order(ledger):
    levels = [1 + i % 10 for i in range(600)]
    with serve(model=Echo().model) as server:
        found, totals = verdicts(
            judge_settings("openai", server, concurrency=8), ledger, [f"{planted(n)} {i}" for i, n in enumerate(levels)]
        )
    assert [verdict.reward for verdict in found] == pytest.approx(levels)
    assert totals.annotations == 600


def test_the_step_has_a_deadline_and_what_comes_late_is_kept(ledger):
    """nanotune#132: a slow judge costs a step its deadline, not the run; what was paid for is in the ledger."""
    with serve(ServerSettings(port=0, latency_s=0.6)) as server:
        settings = judge_settings("openai", server, batch_deadline_s=0.3, concurrency=2)
        with settings.open(ledger) as judge:
            start = time.monotonic()
            found = judge.submit(completions([f"Text {i}." for i in range(6)])).result()
            assert time.monotonic() - start < 0.55
            assert [verdict.status for verdict in found] == ["timeout"] * 6
            time.sleep(0.8)
        assert server.asked.total() == 2
        again, _ = verdicts(judge_settings("openai", server), ledger, [f"Text {i}." for i in range(2)])
        assert [verdict.from_ledger for verdict in again] == [True, True]


def test_a_server_that_is_away_ends_soon(ledger):
    settings = OpenAIJudge(model="m", base_url="http://127.0.0.1:9/v1", attempts=2)
    (verdict,), _ = verdicts(settings, ledger, ["One."])
    assert verdict.status == "failed"
    assert "the connection failed" in verdict.reason
    assert "2 tries to connect" in verdict.reason
    assert verdict.calls == 0


@pytest.mark.parametrize("wire", WIRES)
def test_closing_in_the_middle_is_clean(wire, ledger):
    with serve(ServerSettings(port=0, latency_s=5.0)) as server:
        judge = judge_settings(wire, server, attempt_timeout_s=1.0).open(ledger)
        pending = judge.submit(completions(["One.", "Two."]))
        time.sleep(0.3)
        start = time.monotonic()
        judge.close()
        judge.close()
        assert time.monotonic() - start < 3
        with pytest.raises(DarError, match="closed"):
            pending.result()
        with pytest.raises(DarError, match="closed"):
            judge.submit(completions(["Three."]))
    assert "judge" not in {thread.name for thread in threading.enumerate()}


def stored(ledger):
    with contextlib.closing(sqlite3.connect(ledger)) as database:
        return database.execute("SELECT count(*) FROM answers").fetchone()[0]


@pytest.mark.parametrize(("error", "kept"), [(Interrupted, 16), (JudgeStopped, 16), (KeyError, 0)])
def test_who_leaves_waits_for_what_is_under_way_and_begins_nothing(error, kept, ledger):
    """16 calls were under way, and billed, when a signal came; the ledger had none of them."""
    with serve(ServerSettings(port=0, latency_s=0.5)) as server:
        settings = judge_settings("openai", server, concurrency=16)

        def leave():
            with settings.open(ledger) as judge:
                pending.append(judge.submit(completions([f"Text {i}." for i in range(40)])))
                while server.asked.total() < 16:
                    time.sleep(0.01)
                raise error

        pending = []
        with pytest.raises(error):
            leave()
        assert server.asked.total() == 16
        assert stored(ledger) == kept
        with pytest.raises(DarError, match="closed"):
            pending[0].result()


def test_what_does_not_end_in_time_is_given_up(ledger):
    with serve(ServerSettings(port=0, latency_s=5.0)) as server:
        judge = judge_settings("openai", server).open(ledger)
        judge.submit(completions(["One."]))
        while not server.asked.total():
            time.sleep(0.01)
        start = time.monotonic()
        judge.close(drain_s=0.2)
        assert time.monotonic() - start < 3
    assert stored(ledger) == 0


def test_a_judge_tells_what_its_requests_waited_for(ledger):
    faults = {"server_error": 1.0}
    settings = ServerSettings(port=0, latency_s=0.02, faults=faults, fault_attempts=1)
    with serve(settings) as server, judge_settings("openai", server).open(ledger) as judge:
        judge.submit(completions(["One.", "Two."])).result()
        waits = judge.take_waits()
        assert judge.take_waits().latencies == ()
    assert (len(waits.latencies), waits.retries) == (2, 2)
    assert min(waits.latencies) >= 0.02
    assert waits.connect_wait_s > 0


def test_a_ledger_that_fails_stops_the_run(ledger, monkeypatch):
    with serve() as server, judge_settings("openai", server).open(ledger) as judge:

        async def broken(question, answer: Answer, attempts: int) -> None:
            raise DarError("the ledger cannot be written: disk full")

        monkeypatch.setattr(judge._ledger, "put", broken)
        with pytest.raises(DarError, match="disk full"):
            judge.submit(completions(["One.", "Two."])).result()


def test_the_legacy_sdk_says_what_it_cannot_do(ledger):
    pytest.importorskip("google.ai.generativelanguage")
    settings = {"model": "m", "base_url": "http://127.0.0.1:9", "sdk": "google-generativeai"}
    for extra, told in ({"thinking_budget": 0}, "thinking_budget"), ({"api_version": "v1"}, "v1beta only"):
        with pytest.raises(SettingError, match=told):
            JUDGES["gemini"](**settings, **extra).open(ledger)


def test_describe_is_one_line_for_people(ledger):
    with ScriptedJudge(rubric="tldr").open(ledger) as judge:
        assert judge.describe() == "scripted-overlap in this process, mode logprobs, rubric tldr"


KILLED = """
import pathlib, sys
from dar_jax.judging import OpenAIJudge
from tests.judging.sample_questions import completions
settings = OpenAIJudge(model="m", base_url=sys.argv[1], concurrency=3)
with settings.open(pathlib.Path(sys.argv[2])) as judge:
    for step in range(100):
        texts = [f"Step {step} sample {i}." for i in range(4)]
        print(step, [v.reward for v in judge.submit(completions(texts)).result()], flush=True)
"""


def test_a_killed_run_pays_for_no_used_verdict_again(ledger):
    with serve(ServerSettings(port=0, latency_s=0.02)) as server:
        command = [sys.executable, "-c", KILLED, server.openai_url, str(ledger)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            steps = [process.stdout.readline() for _ in range(5)]
            os.kill(process.pid, signal.SIGKILL)
            steps += process.stdout.read().splitlines()
        time.sleep(0.1)
        before = dict(server.answered)
        texts = [f"Step {step} sample {i}." for step in range(len(steps)) for i in range(4)]
        settings = OpenAIJudge(model="m", base_url=server.openai_url)
        _, totals = verdicts(settings, ledger, texts)
        assert (totals.annotations, totals.ledger_hits) == (0, len(texts))
        assert server.answered == before
