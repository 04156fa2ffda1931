"""Held-out evaluation: a judge compares completions of the policy with completions of the initial policy, always
sampled with the same random keys.
"""

from collections.abc import Callable

from dar_jax import hosts
from dar_jax.evaluation import Evaluation, compare
from dar_jax.learning.learner_state import State
from dar_jax.models import Params
from dar_jax.records import Completion
from dar_jax.run.session import Purpose, Session
from dar_jax.run.shared_judge import SharedJudge


class HeldOut:
    """The evaluations of a run, on the first of its held-out prompts.

    The initial policy is sampled once, as its completions are the same every time.
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
        state: State,
        initial: Params | None,
        leave_if_asked: Callable[[], None],
    ) -> Evaluation:
        """Return the judge's comparison of the policy with the initial one; `leave_if_asked` is called while it judges.

        Raises BudgetSpent.
        """
        completions = self.completions(state, initial)
        # One submission, so that a judge of pairs compares the two.
        submitted = judge.submit(completions)
        judge.wait([submitted], leave_if_asked)
        lengths = {row: completion.token_count for row, completion in completions.items()}
        length, verdicts = hosts.union("lengths", lengths, int), judge.verdicts([submitted])
        judge.check_spend(verdicts)
        half = len(self.prompts)
        return compare(length[:half], verdicts[:half], length[half:], verdicts[half:])

    def completions(self, state: State, initial: Params | None) -> dict[int, Completion]:
        """Return this host's completions by global row: of each prompt by the policy, then by the initial policy."""
        learner = self._session.learner
        if self._of_start is None:
            assert initial is not None
            self._of_start = self._sampled(lambda: learner.decode_reference(initial), first=len(self.prompts))
        return self._sampled(lambda: learner.decode_params(state), first=0) | self._of_start

    def _sampled(self, decode_params: Callable[[], Params], first: int) -> dict[int, Completion]:
        # The parameters have no name here, so that they are freed as soon as sampling ends.
        key = self._session.key(Purpose.EVALUATION)
        ((_, words),) = self._session.sample_in_chunks(self._sampler, decode_params(), self.prompts, 1, key, chunks=1)
        return {first + row: completion for row, completion in words.items()}
