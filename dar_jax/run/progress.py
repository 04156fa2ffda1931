"""The progress of a run, which a checkpoint keeps beside the state, and the end of a run that makes none.

A step is tied if the algorithm's advantages of all its completions are 0: all scored completions of each prompt have
the same reward (of the whole batch, if that is the baseline), or none was scored. A tied step makes no update.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dar_jax.config.run_config import RunConfig
from dar_jax.errors import JudgeStopped


@dataclass
class RunProgress:
    """Completed steps, completed updates of the current step, and its metrics so far.

    `evaluation_due` is True while the last whole step is not evaluated yet. `memory` is the algorithm's.
    `start_checksum` is that of the initial parameters. `tied_steps` counts consecutive tied steps up to the one judged
    last.
    """

    step: int = 0
    update: int = 0
    measured: dict[str, Any] = field(default_factory=dict)
    updates: list[dict[str, float]] = field(default_factory=list)
    start_checksum: str = ""
    evaluation_due: bool = False
    memory: dict[str, float] = field(default_factory=dict)
    tied_steps: int = 0

    def next_step(self, *, evaluation_due: bool, memory: dict[str, float]) -> "RunProgress":
        """Return the progress after the current step."""
        return RunProgress(
            step=self.step + 1,
            start_checksum=self.start_checksum,
            evaluation_due=evaluation_due,
            memory=memory,
            tied_steps=self.tied_steps,
        )


def tied_steps(before: int, advantage_PG: np.ndarray) -> int:
    """Return the number of consecutive tied steps up to this one, 0 if this one is not tied."""
    return 0 if advantage_PG.any() else before + 1


def check_ties(progress: RunProgress, config: RunConfig) -> None:
    """Raise JudgeStopped if the last `max_tied_steps` steps were all tied, unless the run is done."""
    limit = config.max_tied_steps
    if limit is None or progress.tied_steps < limit or progress.step >= config.steps:
        return
    raise JudgeStopped(
        f"max_tied_steps={limit}: in the last {progress.tied_steps} steps the judge gave all completions of a prompt"
        " the same reward, so that no update was made; start another run with finer answers (judge.mode=logprobs or"
        " samples), another judge or rubric, or a higher sampling.temperature. To continue anyway, raise max_tied_steps"
    )
