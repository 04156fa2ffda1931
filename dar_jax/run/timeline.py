"""When the phases of a step ran, in seconds since its beginning."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple


class Span(NamedTuple):
    """A phase from its beginning to its end, by `time.perf_counter`."""

    phase: str
    began: float
    ended: float


class Timeline:
    """What this process did of a step, and what ran beside it."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget the last step."""
        self._began = time.perf_counter()
        self._phases: list[Span] = []
        self._beside: list[Span] = []

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Note what runs inside as a phase."""
        began = time.perf_counter()
        yield
        self._phases.append(Span(phase, began, time.perf_counter()))

    def beside(self, phase: str, began: float, ended: float) -> None:
        """Note what ran while this process did something else."""
        self._beside.append(Span(phase, began, ended))

    def seconds(self) -> dict[str, float]:
        """Sum up the phases, and say how long the step has taken so far."""
        found: defaultdict[str, float] = defaultdict(float)
        for span in self._phases:
            found[span.phase] += span.ended - span.began
        return {**found, "step": time.perf_counter() - self._began}

    def rows(self, step: int) -> list[dict[str, Any]]:
        """Give the rows of timeline.jsonl, by their beginning."""
        spans = sorted([*self._phases, *self._beside], key=lambda span: span.began)
        return [
            {"step": step, "phase": phase, "from_s": began - self._began, "to_s": ended - self._began}
            for phase, began, ended in spans
        ]
