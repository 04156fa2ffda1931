"""Timings of a server: latencies, retries, waits for connections."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Waits:
    """What requests waited for, all in seconds: `latencies` from when each may be sent to its answer; `connect_wait_s`
    is the longest wait for a connection. `retries` counts requests that were sent again. `slowed_to_per_minute` is the
    pace that a server's 429s have taught, 0 where none has.
    """

    latencies: tuple[float, ...] = ()
    retries: int = 0
    connect_wait_s: float = 0.0
    slowed_to_per_minute: float = 0.0

    def __add__(self, other: "Waits") -> "Waits":
        paces = [pace for pace in (self.slowed_to_per_minute, other.slowed_to_per_minute) if pace]
        return Waits(
            latencies=self.latencies + other.latencies,
            retries=self.retries + other.retries,
            connect_wait_s=max(self.connect_wait_s, other.connect_wait_s),
            slowed_to_per_minute=min(paces, default=0.0),
        )

    def metrics(self) -> dict[str, float]:
        """Return the metrics of a step, without those that have no value."""
        found: dict[str, float] = {"judge/retries": self.retries}
        if self.latencies:
            found["judge/latency_p50_s"] = _percentile(self.latencies, 0.5)
            found["judge/latency_p95_s"] = _percentile(self.latencies, 0.95)
            found["judge/connect_wait_s"] = self.connect_wait_s
        if self.slowed_to_per_minute:
            found["judge/slowed_to_per_minute"] = self.slowed_to_per_minute
        return found


class Timings:
    """Collects timings on the judge's thread; `take` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latencies: list[float] = []
        self._retries = 0

    def answered(self, seconds: float, again: bool) -> None:
        """Add an answer that took this long; `again`: to a request that was sent before."""
        with self._lock:
            self._latencies.append(seconds)
            self._retries += again

    def failed(self, again: bool) -> None:
        """Add a request that brought no answer; `again`: it had been sent before."""
        with self._lock:
            self._retries += again

    def take(self) -> Waits:
        """Return what was collected since the last call."""
        with self._lock:
            found = Waits(tuple(self._latencies), self._retries)
            self._latencies, self._retries = [], 0
        return found


def _percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that a share of all values does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
