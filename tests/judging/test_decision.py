"""Typed decisions as a channel: over OpenAI's protocol, the open servers' and Gemini's, and in process."""

import importlib.util

import pytest

from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.errors import SettingError
from dar_jax.judging import GeminiJudge, OpenAIJudge, ScriptedJudge
from dar_jax.judging.ledger import readers
from dar_jax.judging.ledger.rereading import price, reread
from dar_jax.judging.money.prices import DECISION_PRICES, Price
from tests.judging.sample_questions import Echo, planted, the_first_by_default
from tests.judging.test_judge import NASTY, ONCE, RATED, SLOW, TRANSPORT, verdicts

GENAI = pytest.mark.skipif(importlib.util.find_spec("google.genai") is None, reason="no google.genai")
PROTOCOLS = ["decisions", "systemone", pytest.param("gemini", marks=GENAI)]
ANSWERS = {
    "refusal": {"decisions": "refused", "systemone": "unparsable", "gemini": "blocked"},
    "safety_block": {"decisions": "refused", "systemone": "unparsable", "gemini": "blocked"},
    "prompt_block": {"decisions": "refused", "systemone": "unparsable", "gemini": "blocked"},
    "empty_choices": {},
    "unknown_finish": {},
    "length": {},
    "no_logprobs": {},
    "low_mass": {},
    "out_of_range": {},
    "prose": {},
}


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """The SDK loads its decisions at its first call, for about as long as the shortest deadline here lasts."""
    if importlib.util.find_spec("google.genai"):
        with serve() as server:
            verdicts(decider("gemini", server), tmp_path_factory.mktemp("loaded") / "ledger.sqlite", ["A completion."])


def decider(protocol, server, **settings):
    patience = {"attempts": 2, "attempt_timeout_s": 5.0, "deadline_s": 10.0} | settings
    if protocol == "gemini":
        return GeminiJudge(model="m", base_url=server.url, sdk="google-genai", mode="decision", **patience)
    url = server.openai_url
    return OpenAIJudge(model="m", base_url=url, decisions=protocol, mode="decision", **patience)


@pytest.mark.parametrize("permutations", [1, 4])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_planted_verdict_comes_back(protocol, permutations, ledger):
    echo, levels = Echo(), [3.0, 9.25, 1.0, 10.0, 6.5]
    texts = [planted(level) + nasty for level, nasty in zip(levels, NASTY, strict=True)]
    with serve(model=echo.model) as server:
        settings = decider(protocol, server, permutations=permutations)
        found, totals = verdicts(settings, ledger, texts, prompt="Braces {x} <b>?")
    assert [verdict.reward for verdict in found] == pytest.approx(levels)
    assert {verdict.provenance for verdict in found} == {"decision"}
    assert set(echo.shown) == {("Braces {x} <b>?", text) for text in texts}
    assert totals.annotations == totals.calls == 5 * permutations
    assert totals.usage.input_tokens > 0


@pytest.mark.parametrize("fault", TRANSPORT)
@pytest.mark.parametrize("protocol", the_first_by_default(PROTOCOLS))
@pytest.mark.usefixtures("loaded")
def test_a_failed_call_never_becomes_a_number(protocol, fault, ledger):
    settings = ServerSettings(port=0, faults={fault: 1.0}, retry_after_s=0.1, hang_s=60)
    deadline_s = RATED.get(fault, 20.0)
    with serve(settings) as server:
        judge = decider(protocol, server, attempt_timeout_s=0.5 if fault in SLOW else 5.0, deadline_s=deadline_s)
        (verdict,), totals = verdicts(judge, ledger, ["A completion."])
        asked = server.asked.total()
    assert (verdict.status, verdict.reward, totals.annotations) == (TRANSPORT[fault], None, 0)
    assert verdict.calls == 1 if fault in ONCE else verdict.calls > 1
    assert asked == verdict.calls or fault in SLOW or fault.startswith("rate_limit")


@pytest.mark.parametrize("fault", ANSWERS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_unusable_answer_is_typed_billed_once_and_read_again_alike(protocol, fault, ledger):
    with serve(ServerSettings(port=0, faults={fault: 1.0})) as server:
        settings = decider(protocol, server)
        (first,), totals = verdicts(settings, ledger, ["A completion."])
        (again,), more = verdicts(settings, ledger, ["A completion."])
        assert set(server.asked.values()) == {1}
    assert (first.status, first.reward) == (ANSWERS[fault].get(protocol, "unparsable"), None)
    assert (again.status, again.from_ledger, again.reason) == (first.status, True, first.reason)
    assert (totals.annotations, more.annotations) == (1, 0)
    (row,) = readers.LedgerFile(ledger).rows()
    assert (reread(row, 0.5).status, reread(row, 0.5).reason) == (first.status, first.reason)


def test_little_mass_on_the_labels_is_no_reward(ledger):
    with serve(ServerSettings(port=0, faults={"low_mass": 1.0})) as server:
        (low,), _ = verdicts(decider("systemone", server), ledger, ["A completion."])
        (taken,), _ = verdicts(decider("systemone", server, mass_floor=0.0), ledger, ["A completion."])
    assert (low.status, taken.status) == ("unparsable", "ok")
    assert "only 1% of the probability is on the levels" in low.reason
    assert taken.distribution.mass == pytest.approx(0.01)


def test_the_same_words_are_another_question_in_another_mode_and_protocol(ledger):
    with serve() as server:
        for settings in (
            decider("decisions", server),
            decider("systemone", server),
            OpenAIJudge(model="m", base_url=server.openai_url),
        ):
            assert verdicts(settings, ledger, ["A completion."])[1].annotations == 1
            assert verdicts(settings, ledger, ["A completion."])[1].annotations == 0


def test_a_permuted_question_is_asked_again_alike(ledger, tmp_path):
    """Orders are drawn from the content: a resume asks the same, and pays nothing."""
    settings = ScriptedJudge(mode="decision", permutations=3, levels=4)
    (first,), totals = verdicts(settings, ledger, ["A completion."])
    (again,), more = verdicts(settings, ledger, ["A completion."])
    assert (totals.annotations, more.annotations, again.reward) == (3, 0, first.reward)
    listed = set()
    for row in readers.LedgerFile(ledger).rows():
        assert reread(row, 0.5).reward == pytest.approx(first.reward)
        listed.add(row.request)
    assert len(listed) == 3


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"permutations": 2}, "mode logprobs lists no levels"),
        ({"permutations": 2, "mode": "auto"}, "mode auto lists no levels"),
        ({"permutations": 3, "mode": "decision", "levels": 2}, "2 levels have 2 orders"),
    ],
)
def test_orders_that_make_no_sense_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        ScriptedJudge(**settings)


def test_the_ended_sdk_is_refused_before_anything_is_asked(tmp_path):
    pytest.importorskip("google.ai.generativelanguage")
    settings = GeminiJudge(model="m", base_url="http://127.0.0.1:9", sdk="google-generativeai", mode="decision")
    with pytest.raises(SettingError, match="decision needs google-genai"):
        settings.open(tmp_path / "ledger.sqlite")


def test_decisions_have_prices_of_their_own():
    assert OpenAIJudge(model="gpt-6-luna", mode="decision").price == DECISION_PRICES["gpt-6-luna"]
    assert OpenAIJudge(model="gpt-6-luna").price.output == 0.50
    assert OpenAIJudge(model="gpt-4.1-mini", mode="decision").price is None
    assert GeminiJudge(model="gemini-decision-1", mode="decision").price == Price(
        input=0.10, output=0.0, date="2026-11"
    )
    stored = {"wire": "openai", "model": "gpt-6-luna", "endpoint": "https://api.openai.com/v1"}
    assert price(stored | {"channel": "decision"}) == DECISION_PRICES["gpt-6-luna"]
    assert price(stored).output == 0.50


def test_describe_names_the_channel(ledger):
    with ScriptedJudge(mode="decision").open(ledger) as judge:
        assert judge.describe() == "scripted-overlap in this process, mode decision, rubric general"


def test_completions_share_nothing_but_their_own_data(ledger):
    with serve() as server:
        verdicts(decider("systemone", server), ledger, ["One.", "Two."])
        bodies = list(server.bodies.values())
    assert len({body["state"] for body in bodies}) == 2
    assert len({str(body["questions"]) for body in bodies}) == 1
    assert all("Answer with exactly" not in body["state"] for body in bodies)
