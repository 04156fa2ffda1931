"""Who gives rewards. Words only: nothing here imports jax.

judge = settings.judge.open(ledger_place)        one thread, for the whole run; a context manager
pending = judge.submit(completions)              returns at once
verdicts = pending.result()                      typed, in order; a failure is a verdict that says why
check_budget(verdicts, spent, judge.price)      raises where the budget kept a question from being asked
check_failures(verdicts, judge.max_failure_share, judge.describe())

What is asked:     settings.py, terms.py (what can be set), rubrics.py, rubric_file.py, criteria.py (what to look for),
                   protocol.py, comparison.py (the words of a question about one completion, about two), questions.py
How it goes:       opening.py, probing.py (which mode), judge.py (batches), asking.py (one wire: ledger, budget)
What comes of it:  parsing.py (one answer), outcomes.py, scalar.py, pairwise.py (a judgement), combining.py (panels)
What is kept:      ledger.py, segments.py; rereading.py, rebuilding.py, audit.py, statistics.py, reading.py
What it costs:     prices.py, spent.py, budget.py, totals.py; health.py (when to stop)
"""

from dar_jax.judging.canaries import canary_alarm, canary_metrics
from dar_jax.judging.health import check_failures
from dar_jax.judging.judge import Judge, Pending
from dar_jax.judging.judge_settings import SINGLE, GeminiJudge, OpenAIJudge, PanelJudge, ScriptedJudge
from dar_jax.judging.money.budget import check_budget
from dar_jax.judging.money.spent import Spent
from dar_jax.judging.money.totals import Totals

JUDGES = {**SINGLE, "panel": PanelJudge}

__all__ = [
    "JUDGES",
    "SINGLE",
    "GeminiJudge",
    "Judge",
    "OpenAIJudge",
    "PanelJudge",
    "Pending",
    "ScriptedJudge",
    "Spent",
    "Totals",
    "canary_alarm",
    "canary_metrics",
    "check_budget",
    "check_failures",
]
