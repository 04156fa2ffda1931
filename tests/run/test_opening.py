"""What a run says of its ledger when it opens it."""

import io

from dar_jax.judging import ScriptedJudge
from dar_jax.run import opening
from dar_jax.runlog import RunFolder
from dar_jax.terminal.console import Console
from tests.judging.sample_questions import completions


def test_a_resume_is_told_of_answers_that_its_ledger_has_lost(tmp_path):
    folder, screen = RunFolder.create(tmp_path / "run", "policy: {path: p}\n"), io.StringIO()
    folder.write("metrics", [{"step": 1, "judge/spent_annotations": 3}])
    for texts in (["a cat", "a dog"], ["a cow"]):
        with ScriptedJudge().open(folder.ledger) as judge:
            opening.warn_of_lost_answers(judge, folder, Console("plain", screen))
            judge.submit(completions(texts)).result()
    with ScriptedJudge().open(folder.ledger) as judge:
        opening.warn_of_lost_answers(judge, folder, Console("plain", screen))
    told = screen.getvalue()
    assert told.count("warning") == 2
    assert "the ledger holds 0 answers, the log has 3 at step 1" in told
    assert "the ledger holds 2 answers, the log has 3 at step 1" in told
