"""Timing of the phases of a step."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple


class Span(NamedTuple):
    """A phase with its start and end, by `time.perf_counter`."""

    phase: str
    began: float
    ended: float


class Timeline:
    """The phases of a step in this process, and work that ran concurrently."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start a new step."""
        self._began = time.perf_counter()
        self._phases: list[Span] = []
        self._concurrent: list[Span] = []

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Record the block as a phase."""
        began = time.perf_counter()
        yield
        self._phases.append(Span(phase, began, time.perf_counter()))

    def concurrent(self, phase: str, began: float, ended: float) -> None:
        """Record work that ran concurrently with the phases."""
        self._concurrent.append(Span(phase, began, ended))

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each phase, and of the step so far."""
        found: defaultdict[str, float] = defaultdict(float)
        for span in self._phases:
            found[span.phase] += span.ended - span.began
        return {**found, "step": time.perf_counter() - self._began}

    def rows(self, step: int) -> list[dict[str, Any]]:
        """Return the rows of timeline.jsonl, ordered by start."""
        spans = sorted([*self._phases, *self._concurrent], key=lambda span: span.began)
        return [
            {"step": step, "phase": phase, "from_s": began - self._began, "to_s": ended - self._began}
            for phase, began, ended in spans
        ]
