"""Record what the host of a run does between its updates: exchanges with other hosts, and fetches from the device."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax._src.array import ArrayImpl

from dar_jax.hosts.rendezvous import Rendezvous
from dar_jax.learner import Learner

FETCHES = ((np, "asarray"), (np, "array"), (jax, "device_get"), (ArrayImpl, "__float__"))


def record_events(patch: Callable[[Any, str, Any], None] = setattr) -> list[str]:
    """Return a list that grows with each "update", "exchange" and "fetch" from now on."""
    events: list[str] = []

    def record(owner: Any, name: str, event: str) -> None:
        original = getattr(owner, name)

        def recording(*arguments: Any, **options: Any) -> Any:
            if event != "fetch" or any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(arguments)):
                events.append(event)
            return original(*arguments, **options)

        patch(owner, name, recording)

    record(Learner, "regress", "update")
    for name in ("gather", "collect"):
        record(Rendezvous, name, "exchange")
    for owner, name in FETCHES:
        record(owner, name, "fetch")
    return events


def between_updates(events: list[str], step: int, updates: int) -> list[str]:
    """Return the events from the first update of a step to its last."""
    places = [index for index, event in enumerate(events) if event == "update"]
    first, *_, last = places[step * updates : (step + 1) * updates]
    return events[first:last]
