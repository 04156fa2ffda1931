"""Who gives rewards. Words only: nothing here imports jax.

judge = settings.judge.open(ledger_place)        one thread, for the whole run; a context manager
pending = judge.submit(completions)              returns at once
verdicts = pending.result()                      typed, in order; a failure is a verdict that says why
check_budget(verdicts, spent, judge.price)      raises where the budget kept a question from being asked
check_failures(verdicts, judge.max_failure_share, judge.describe())
"""

from dar_jax.judging.budget import check_budget
from dar_jax.judging.canaries import canary_alarm, canary_metrics
from dar_jax.judging.health import check_failures
from dar_jax.judging.judge import Judge, Pending
from dar_jax.judging.settings import GeminiJudge, OpenAIJudge, ScriptedJudge
from dar_jax.judging.spent import Spent
from dar_jax.judging.totals import Totals

JUDGES = {"openai": OpenAIJudge, "gemini": GeminiJudge, "scripted": ScriptedJudge}

__all__ = [
    "JUDGES",
    "GeminiJudge",
    "Judge",
    "OpenAIJudge",
    "Pending",
    "ScriptedJudge",
    "Spent",
    "Totals",
    "canary_alarm",
    "canary_metrics",
    "check_budget",
    "check_failures",
]
