"""Held-out evaluation: completions of the policy and of its start, always with the same random keys, and a judge's
comparison of the two.
"""

from collections.abc import Callable

from dar_jax import hosts
from dar_jax.evaluation import Outcome, compare
from dar_jax.models import Params
from dar_jax.records import Completion
from dar_jax.run.session import Purpose, Session
from dar_jax.run.shared_judge import SharedJudge


class HeldOut:
    """The first of a session's held-out prompts, with one sampler for all evaluations of a run.

    What the start says is sampled once: it would be the same every time.
    """

    def __init__(self, session: Session) -> None:
        settings = session.config.evaluation
        assert settings is not None
        assert session.held_out is not None
        self.prompts = session.held_out.at(0, min(settings.prompts, len(session.held_out.ids)))
        self._session, self._sampler = session, session.sampler(settings.temperature)
        self._of_start: dict[int, Completion] | None = None

    def evaluate(
        self,
        judge: SharedJudge,
        policy: Callable[[], Params],
        start: Callable[[], Params],
        leave_if_asked: Callable[[], None],
    ) -> Outcome:
        """Compare the policy with its start by the judge; `leave_if_asked` is called while it works.

        Raises BudgetSpent.
        """
        completions = self.completions(policy, start)
        # One submission: a judge that compares is to compare the two.
        submitted = judge.submit(completions)
        judge.wait([submitted], leave_if_asked)
        lengths = {row: completion.token_count for row, completion in completions.items()}
        length, verdicts = hosts.union("lengths", lengths, int), judge.verdicts([submitted])
        judge.check_spend(verdicts)
        half = len(self.prompts)
        return compare(length[:half], verdicts[:half], length[half:], verdicts[half:])

    def completions(self, policy: Callable[[], Params], start: Callable[[], Params]) -> dict[int, Completion]:
        """Sample a completion of each prompt; return those of this host by their numbers among all rows: the policy's,
        then the start's. Each of the two lays its parameters out for sampling.
        """
        if self._of_start is None:
            self._of_start = self._sampled(start, first=len(self.prompts))
        return self._sampled(policy, first=0) | self._of_start

    def _sampled(self, lay_out: Callable[[], Params], first: int) -> dict[int, Completion]:
        # What is laid out stays unnamed, so that it goes as soon as it has been sampled from.
        key = self._session.key(Purpose.EVALUATION)
        ((_, words),) = self._session.sample_in_chunks(self._sampler, lay_out(), self.prompts, 1, key, chunks=1)
        return {first + row: completion for row, completion in words.items()}
