import pytest

from dar_jax.chat.envelope import unseal
from dar_jax.chat.scripted.rule import ScriptedModel
from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.judging import ScriptedJudge
from dar_jax.judging.ledger import readers
from dar_jax.judging.ledger.rereading import reread
from dar_jax.judging.questions.criteria import Criterion
from tests.judging.sample_questions import Echo, planted
from tests.judging.test_judge import verdicts
from tests.wires import judge_settings

TWO = (
    {"name": "clear", "instructions": "Is it easy to follow?", "weight": 3},
    {"name": "true", "instructions": "Does it hold?"},
)


@pytest.fixture
def ledger(tmp_path):
    return tmp_path / "ledger.sqlite"


class TwoFaced:
    """A model that gives each criterion its own planted reward, found in the words of the question."""

    def __init__(self, **rewards):
        self.rewards, self.scorer, self.name = rewards, None, "two-faced"

    def answer(self, request):
        found = [self._one(request, score.instructions, score) for score in request.scores]
        if not request.scores:
            return self._one(request, request.messages[0].content)
        answers = [answer.choices[0] for answer in found]
        return type(found[0])(choices=tuple(answers), served_model=self.name, usage=found[0].usage)

    def _one(self, request, words, score=None):
        (reward,) = [reward for name, reward in self.rewards.items() if f", {name}, and nothing else" in words]
        model = ScriptedModel(name=self.name, scorer=lambda prompt, completion: reward)
        if score is not None:
            request = type(request)(messages=request.messages, max_tokens=1, scores=(score,))
        return model.answer(request)


@pytest.mark.parametrize(("mode", "calls"), [("decision", 1), ("logprobs", 2), ("samples", 2)])
def test_the_reward_is_the_weighted_mean(mode, calls, ledger):
    with serve(model=TwoFaced(clear=8.0, true=4.0)) as server:
        settings = judge_settings("openai", server, mode=mode, criteria=TWO)
        (verdict,), totals = verdicts(settings, ledger, ["A completion."])
        (again,), more = verdicts(settings, ledger, ["A completion."])
        assert server.asked.total() == calls
    assert verdict.reward == again.reward == pytest.approx((3 * 8 + 4) / 4)
    assert (totals.annotations, verdict.calls, more.annotations) == (calls, calls, 0)
    assert sum(verdict.distribution.probabilities) == pytest.approx(1.0)


def test_criteria_share_one_request_where_they_can(ledger):
    """Billed once: what they are about is written once."""
    with serve() as server:
        verdicts(judge_settings("openai", server, mode="decision", criteria=TWO), ledger, ["A completion."])
        (body,) = server.bodies.values()
    assert list(body["questions"]) == ["clear", "true"]
    assert "A completion." in body["state"]
    assert "A completion." not in str(body["questions"])


def test_a_chat_model_is_asked_one_criterion_at_a_time(ledger):
    """The order of several criteria in one prompt shifts their scores."""
    with serve() as server:
        verdicts(judge_settings("openai", server, criteria=TWO), ledger, ["A completion."])
        systems = sorted(body["messages"][0]["content"] for body in server.bodies.values())
        users = {body["messages"][1]["content"] for body in server.bodies.values()}
    assert [("follow" in text, "Does it hold" in text) for text in systems] == [(True, False), (False, True)]
    assert unseal(users.pop())[0]["completion"] == "A completion."
    assert not users


@pytest.mark.parametrize("mode", ["decision", "logprobs"])
def test_a_criterion_without_an_answer_leaves_no_reward(mode, ledger):
    faults = {"refusal": 0.5}
    with serve(ServerSettings(port=0, faults=faults, seed=3), Echo().model) as server:
        settings = judge_settings("openai", server, mode=mode, criteria=TWO)
        found, totals = verdicts(settings, ledger, [planted(level) + str(level) for level in range(1, 9)])
    assert {verdict.status for verdict in found} > {"ok"}
    for verdict in found:
        assert verdict.status == "ok" or verdict.reward is None
        assert verdict.usage.input_tokens > 0
    assert totals.annotations == (8 if mode == "decision" else 16)


def test_another_weight_pays_for_nothing_again(ledger):
    for weight, reward in ((3.0, 7.0), (1.0, 6.0)):
        with serve(model=TwoFaced(clear=8.0, true=4.0)) as server:
            criteria = ({**TWO[0], "weight": weight}, TWO[1])
            for mode in ("decision", "logprobs"):
                settings = judge_settings("openai", server, mode=mode, criteria=criteria, endpoint="mine")
                (verdict,), totals = verdicts(settings, ledger, ["A completion."])
                assert verdict.reward == pytest.approx(reward)
                assert (totals.annotations > 0) == (weight == 3.0)


def test_a_stored_decision_is_read_again_with_its_weights(ledger):
    with serve(model=TwoFaced(clear=8.0, true=4.0)) as server:
        verdicts(judge_settings("openai", server, mode="decision", criteria=TWO), ledger, ["A completion."])
    (row,) = readers.LedgerFile(ledger).rows()
    assert reread(row, 0.5).reward == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"criteria": (TWO[0], TWO[0])}, "clear is there twice"),
        ({"criteria": TWO, "rubric": "tldr"}, "keep one"),
        ({"criteria": TWO, "rubric_text": "Mine."}, "keep one"),
        ({"criteria": ({"name": "a b", "instructions": "x"},)}, "pattern"),
        ({"criteria": ({"name": "a", "instructions": "x", "weight": 0},)}, "greater than 0"),
    ],
)
def test_a_mistake_is_named(settings, told):
    with pytest.raises(ValueError, match=told):
        ScriptedJudge(**settings)


def test_the_rubric_of_a_criterion_names_it():
    assert "clear" in Criterion(name="clear", instructions="Is it easy to follow?").rubric
