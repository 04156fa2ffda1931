"""`dar-jax`, with scorers that do what a judge must not, and a record of what its host does (HOST_WORK)."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from dar_jax import hosts
from dar_jax.chat.failures import Rejected
from dar_jax.chat.scripted.scorers import SCORERS, overlap
from dar_jax.cli.main import main
from tests.planted import moody


def fails_on_host_1(prompt: str, completion: str) -> float:
    if hosts.index() == 1 and "HEALED" not in os.environ:
        raise Rejected("this host's judge refuses")
    return overlap.score(prompt, completion)


def launches_a_collective(prompt: str, completion: str) -> float:
    from jax.experimental import multihost_utils

    return float(multihost_utils.process_allgather(len(completion)).sum())


def recorded(run: Callable[[], int]) -> int:
    """Run in the child process, where jax may be imported, and write what its host did."""
    from tests.host_work import record_events

    events = record_events()
    status = run()
    Path(os.environ["HOST_WORK"].format(os.environ["DAR_JAX_PROCESS"])).write_text(json.dumps(events))
    return status


SCORERS.update({"fails-on-host-1": fails_on_host_1, "launches-a-collective": launches_a_collective, "moody": moody})

if __name__ == "__main__":
    if "HOST_WORK" in os.environ:
        mind = hosts.mind
        hosts.mind = lambda run: mind(lambda: recorded(run))
    sys.exit(main())
