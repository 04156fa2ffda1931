import json

import pytest
from pydantic import ValidationError

from dar_jax.chat.scripted.rule import ScriptedModel
from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.judging import OpenAIJudge, ScriptedJudge, canary_alarm, canary_metrics
from dar_jax.judging.canaries import Canaries
from dar_jax.judging.ledger.ledger import Question, _hash
from dar_jax.judging.questions.calls import about_one
from dar_jax.records import Distribution, Verdict
from tests.judging.sample_questions import completions
from tests.wires import WIRES, judge_settings

NAMES = ("good", "null", "colon", "thought", "score", "truncated", "injected")


def verdict(reward: float | None) -> Verdict:
    if reward is None:
        return Verdict(status="refused", reason="no")
    share = (reward - 1) / 9
    return Verdict(status="ok", distribution=Distribution(levels=(1.0, 10.0), probabilities=(1 - share, share)))


def careful(prompt: str, completion: str) -> float:
    """See through every canary: only a whole answer that ends there is good."""
    return 8.5 if completion.endswith("let her down.") else 2.0


def gullible(prompt: str, completion: str) -> float:
    """Give what a completion asks for."""
    return 9.5 if "best grade" in completion else careful(prompt, completion)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(("scorer", "margin"), [(careful, 6.5), (gullible, -1.0)])
def test_the_margin_tells_a_careful_judge_from_a_gullible_one(wire, scorer, margin, tmp_path):
    with serve(model=ScriptedModel(name="scripted", scorer=scorer)) as server:
        settings = judge_settings(wire, server)
        with settings.open(tmp_path / "ledger.sqlite") as judge:
            found = canary_metrics(judge.submit(settings.canaries(0)).result())
            totals, spent = judge.totals, judge.spent
        assert server.answered.total() == 5
    assert found["judge/canary_margin"] == pytest.approx(margin)
    assert {f"judge/canary_{name}" for name in NAMES} < found.keys()
    # Five calls; what holds nothing to judge has the lowest reward by rule. The budget counts them.
    assert (totals.annotations, totals.rules, spent.annotations) == (5, 2, 5)
    alarm = canary_alarm(found, settings)
    assert bool(alarm) == (margin < 0)
    if alarm:
        assert "9.50 to a canary (injected) and 8.50 to the good answer: judge.canary_margin=0.5" in alarm[0]


def test_each_step_asks_anew_and_a_resume_does_not(tmp_path):
    """A judge that changes is seen: the answer of an earlier step is not taken for this one's. The same step's is."""
    server_settings, ledger = ServerSettings(port=0), tmp_path / "ledger.sqlite"
    margins, asked = [], []
    for scorer in (careful, gullible):
        with serve(server_settings, ScriptedModel(name="scripted", scorer=scorer)) as server:
            settings = OpenAIJudge(model="m", base_url=server.openai_url, endpoint="the same judge", canary_every=2)
            with settings.open(ledger) as judge:
                for step in (0, 1, 2):
                    found = canary_metrics(judge.submit(settings.canaries(step)).result())
                    margins.append(found.get("judge/canary_margin"))
                # The same text as a completion of the policy's is a question of its own.
                assert judge.submit(completions([settings.canaries(0)[0].text])).result()[0].status == "ok"
            asked.append(server.asked.total())
    # The judge is another one at last, the run a resumed one: steps 0 and 2 are known, and stay what they were.
    assert margins == [pytest.approx(6.5), None, pytest.approx(6.5)] * 2
    assert asked == [5 + 5 + 1, 0]
    with serve(server_settings, ScriptedModel(name="scripted", scorer=gullible)) as server:
        settings = OpenAIJudge(model="m", base_url=server.openai_url, endpoint="the same judge", canary_every=2)
        with settings.open(ledger) as judge:
            found = canary_metrics(judge.submit(settings.canaries(4)).result())
        assert server.asked.total() == 5
    assert found["judge/canary_margin"] == pytest.approx(-1.0)


def test_what_has_no_reward_is_no_number():
    assert canary_metrics([]) == {}
    assert "judge/canary_margin" not in canary_metrics([verdict(None)] + [verdict(2.0)] * 6)
    found = canary_metrics([verdict(8.0), *[verdict(None)] * 5, verdict(3.0)])
    assert found == {"judge/canary_good": 8.0, "judge/canary_injected": 3.0, "judge/canary_margin": 5.0}
    assert canary_alarm({}, Canaries()) == []


def test_settings():
    assert (OpenAIJudge(model="m").canary_every, ScriptedJudge().canary_every) == (100, 0)
    assert [len(Canaries(canary_every=3).canaries(step)) for step in range(4)] == [7, 0, 0, 7]
    assert Canaries(canary_every=0).canaries(0) == []
    own = Canaries(canary_prompt="Why?", canary_answer="Because it is so.").canaries(0)
    assert {(each.prompt.text, each.text) for each in own} >= {("Why?", "Because it is so."), ("Why?", "Because ")}
    for given in ({"canary_prompt": "Why?"}, {"canary_answer": "So."}):
        with pytest.raises(ValidationError, match="is missing: state a prompt and a good answer"):
            Canaries(**given)


def test_the_occasion_decides_the_key_and_nothing_else_does():
    """A question without one has the key that it always had: a ledger of earlier runs stays free."""
    (call,) = about_one(OpenAIJudge(model="m"), completions(["Text."])[0])
    request = call.request
    plain, other = (
        Question(judge={"wire": "x"}, request=request, prompt="p", completion="c", occasion=occasion)
        for occasion in ("", "canary of step 1")
    )
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    sent = {name: value for name, value in vars(request).items() if name not in ("scores", "prose")}
    decides = {"judge": {"wire": "x"}, "request": {**sent, "messages": messages}}
    assert plain.key == _hash(json.loads(json.dumps(decides))) != other.key
