import pytest

from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.errors import JudgeStopped
from dar_jax.judging import check_failures
from dar_jax.records import Distribution, Verdict
from tests.judging.sample_questions import completions, the_first_by_default
from tests.wires import WIRES, judge_settings

OK = Verdict(status="ok", distribution=Distribution(levels=(1.0, 2.0), probabilities=(0.5, 0.5)), provenance="single")
RULE = Verdict(status="ok", distribution=OK.distribution, provenance="rule")
PROSE = Verdict(status="unparsable", reason='reply "lovely" is not one of 0..9')
SLOW = Verdict(status="timeout", reason="no answer within 60 s")


def message(verdicts, share=0.2):
    with pytest.raises(JudgeStopped) as caught:
        check_failures(verdicts, share, "m at http://here, mode single")
    assert caught.value.exit_status == 3
    return str(caught.value)


def test_a_share_within_what_is_allowed_passes():
    check_failures([OK] * 8 + [PROSE] * 2, 0.2, "")
    check_failures([], 0.0, "")
    check_failures([RULE] * 3, 0.0, "")


def test_more_than_allowed_is_unfit():
    text = message([OK] * 7 + [PROSE] * 2 + [SLOW])
    assert "unfit: 3 of 10" in text
    assert "unparsable 2, timeout 1" in text
    assert "max_failure_share=0.2" in text


def test_a_judge_whose_every_answer_is_unusable_is_called_useless():
    text = message([PROSE] * 3 + [SLOW] + [RULE] * 4)
    assert "the judge is useless" in text
    assert "none of 4" in text
    assert '"lovely"' in text
    assert "m at http://here" in text


def test_a_judge_that_is_away_is_not_called_useless():
    text = message([SLOW] * 4)
    assert "does not answer" in text
    assert "useless" not in text
    assert "resume" in text


def test_everything_failed_stops_at_any_share_below_one():
    message([PROSE], 0.99)
    check_failures([PROSE], 1.0, "")


@pytest.mark.parametrize("wire", the_first_by_default(WIRES))
def test_a_web_page_in_place_of_answers_is_no_server_that_is_down(wire, tmp_path):
    with serve(ServerSettings(port=0, faults={"html": 1.0})) as server:
        settings = judge_settings(wire, server, attempts=1)
        with settings.open(tmp_path / "ledger.sqlite") as judge:
            text = message(judge.submit(completions(["a cat", "a dog"])).result())
    assert "check judge.base_url" in text
    assert "see that its server is up" not in text
