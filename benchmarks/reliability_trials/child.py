"""`dar-jax`, which sends itself a signal in the middle of a phase.

    python child.py PHASE:COUNT:DELAY_MS:SIGNAL ARGUMENTS

The signal comes `DELAY_MS` after the phase has begun for the COUNTth time in this process; an empty first argument
asks for none.
"""

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from dar_jax import training
from dar_jax.checkpoints import RunState
from dar_jax.cli.main import main
from dar_jax.learner import Learner
from dar_jax.run.held_out import HeldOut
from dar_jax.run.shared_judge import SharedJudge

PHASES: dict[str, tuple[Any, str]] = {
    "start-up": (training, "open_session"),
    "sampling": (training.Run, "_sample"),
    "judging": (SharedJudge, "wait"),
    "weighing": (Learner, "weigh"),
    "update": (Learner, "regress"),
    "saving": (RunState, "save"),
    "evaluation": (HeldOut, "evaluate"),
    "closing": (training.Run, "leave_if_asked"),
}


def arm(phase: str, count: int, delay_s: float, number: signal.Signals) -> None:
    """Replace the function of a phase by one that has this process signalled while it runs."""
    owner, name = PHASES[phase]
    plain: Callable[..., Any] = getattr(owner, name)
    left = count

    def fire() -> None:
        time.sleep(delay_s)
        os.kill(os.getpid(), number)

    @functools.wraps(plain)
    def armed(*given: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            threading.Thread(target=fire, daemon=True).start()
        return plain(*given, **named)

    setattr(owner, name, armed)


if __name__ == "__main__":
    if sys.argv[1]:
        phase, count, delay_ms, number = sys.argv[1].split(":")
        arm(phase, int(count), float(delay_ms) / 1000, signal.Signals[number])
    sys.exit(main(sys.argv[2:]))
