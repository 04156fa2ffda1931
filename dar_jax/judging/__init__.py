"""Judges: who scores completions, and how. Text only: nothing here imports jax.

    judge = settings.judge.open(location)            one thread for the whole run; a context manager
    pending = judge.submit(completions)              returns at once
    verdicts = pending.result()                      in order; a failure is a verdict with its reason
    check_budget(verdicts, spent, judge.price)       raises BudgetSpent if the budget blocked a question
    check_failures(verdicts, judge.max_failure_share, judge.describe())

judge_settings.py and terms.py are the settings, judge.py runs batches of judgements in its thread. asking/ opens judges
and sends questions, questions/ builds them, answers/ turns answers into verdicts, ledger/ stores every paid answer, and
money/ counts what was paid. canaries.py and health.py watch the judge.
"""

from dar_jax.judging.canaries import canary_alarm, canary_metrics
from dar_jax.judging.health import check_failures
from dar_jax.judging.judge import Judge, Pending
from dar_jax.judging.judge_settings import SINGLE, GeminiJudge, OpenAIJudge, PanelJudge, ScriptedJudge
from dar_jax.judging.money.budget import check_budget
from dar_jax.judging.money.spent import Spent, Totals

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
