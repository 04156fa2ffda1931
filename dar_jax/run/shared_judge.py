"""The judge of all hosts of a run: each host submits its own completions; verdicts, pace and spend are global."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dar_jax import hosts
from dar_jax.chat.limits import Waits
from dar_jax.judging import Judge, Pending, Spent, canary_metrics, check_budget, check_failures
from dar_jax.judging.canaries import Canaries
from dar_jax.records import Completion, Verdict
from dar_jax.reporting import judge_metrics, spent_metrics


class Submitted(NamedTuple):
    """Completions of this host by their row among those of all hosts, and their pending verdicts."""

    completions: dict[int, Completion]
    pending: Pending


class Judged(NamedTuple):
    """The verdicts of all hosts in row order, and the judge's metrics of the step."""

    verdicts: list[Verdict]
    metrics: dict[str, float]


class SharedJudge:
    """One host's judge, with what the other hosts' judges returned and were paid."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    @property
    def modes(self) -> set[str]:
        """The answer modes that the judge uses."""
        return self.judge.modes

    def notices(self) -> list[str]:
        """Return new notices of all hosts' ledgers."""
        gathered = hosts.gather("notices", self.judge.notices(), list[str])
        return list(dict.fromkeys(line for lines in gathered for line in lines))

    def submit(self, completions: dict[int, Completion]) -> Submitted:
        """Start judging this host's completions."""
        return Submitted(completions, self.judge.submit(list(completions.values())))

    def submit_canaries(self, settings: Canaries | None, step: int) -> list[Submitted]:
        """Submit this step's canaries on host 0, an empty batch on other hosts; [] when none is due."""
        due = settings.canaries(step) if settings else []
        return [self.submit(dict(enumerate(due if hosts.is_first() else [])))] if due else []

    def wait(self, submitted: Sequence[Submitted], leave_if_asked: Callable[[], None]) -> None:
        """Return when the judges of all hosts are done; `leave_if_asked` is called about twice a second."""
        while not all(hosts.gather("judge ready", all(each.pending.ready(within_s=0.5) for each in submitted), bool)):
            leave_if_asked()

    def collect(self, submitted: Sequence[Submitted], canaries: Sequence[Submitted]) -> Judged:
        """Return the step's verdicts and metrics.

        Raises BudgetSpent if the budget blocked a request, JudgeStopped if too many judgements failed.
        """
        verdicts, of_canaries = self.verdicts(submitted), self.verdicts(canaries) if canaries else []
        paid = self.check_spend([*verdicts, *of_canaries])
        waits = sum(hosts.gather("judge waits", self.judge.take_waits(), Waits), Waits())
        check_failures(verdicts, self.judge.max_failure_share, self.judge.describe())
        of_step = judge_metrics(verdicts, of_canaries) | waits.metrics() | canary_metrics(of_canaries)
        return Judged(verdicts, of_step | paid)

    def verdicts(self, submitted: Sequence[Submitted]) -> list[Verdict]:
        """Wait for the verdicts on this host's completions; return those of all hosts, in row order."""
        with hosts.together("verdicts"):
            verdicts = [verdict for each in submitted for verdict in each.pending.result()]
        return hosts.union("verdicts", dict(zip(united(submitted), verdicts, strict=True)), Verdict)

    def check_spend(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """Return metrics of the judge's spend across hosts; raise BudgetSpent if the budget blocked a request."""
        spent = sum(hosts.gather("spent", self.judge.spent, Spent), self.judge.spent_before)
        check_budget(list(verdicts), spent, self.judge.price)
        return spent_metrics(spent.annotations, spent.usd(self.judge.price))


def united(submitted: Sequence[Submitted]) -> dict[int, Completion]:
    """Return this host's completions of several submissions, by row."""
    return {row: completion for each in submitted for row, completion in each.completions.items()}
