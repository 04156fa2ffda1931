"""Steps whose rewards leave nothing to learn: no update is made, and after too many in a row the run ends.

A step is tied where the algorithm's advantages of all its completions are 0: all scored completions of each prompt have
the same reward (of the whole batch, where that is the baseline), or none was scored.
"""

import numpy as np

from dar_jax.config.run_config import RunConfig
from dar_jax.errors import JudgeStopped
from dar_jax.run.progress import RunProgress


def tied_steps(before: int, advantage_PG: np.ndarray) -> int:
    """Return the number of tied steps in a row up to this one, 0 where this one is not tied."""
    return 0 if advantage_PG.any() else before + 1


def check_ties(progress: RunProgress, config: RunConfig) -> None:
    """Raise JudgeStopped where the last `max_tied_steps` steps were all tied, unless the run is done."""
    limit = config.max_tied_steps
    if limit is None or progress.tied_steps < limit or progress.step >= config.steps:
        return
    raise JudgeStopped(
        f"max_tied_steps={limit}: in the last {progress.tied_steps} steps the judge told no completion of a prompt from"
        " another, so that no update was made; start another run with finer answers (judge.mode=logprobs or samples),"
        " another judge or rubric, or a higher sampling.temperature. To go on all the same, raise max_tied_steps"
    )
