"""Where a run is; a checkpoint keeps it beside the state."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class RunProgress:
    """Steps completed, updates completed of the current step, and what that step has measured.

    `evaluation_due`: the last whole step is still to be evaluated. `memory` is what the algorithm carries from step to
    step. `start_checksum` is that of the parameters that the run started from. `tied_steps` counts the
    tied steps (`run.ties`) in a row, up to the one judged last.
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
