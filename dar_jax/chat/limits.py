"""Limits on concurrent requests and on the requests and tokens started per minute, and timings of the requests.

Tokens are reserved before a request by estimate and corrected by its answer. Frequent 429s halve the rates; answers
raise them again gradually, up to the settings.
"""

import asyncio
import math
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from dar_jax.chat.failures import Closing

_SLOWER = 0.5
# The share of a second's answers added to the rate: a halved rate recovers in 35 s.
_FASTER = 0.02
_WINDOW_S = 5.0
# The lowest rate, as a share of the setting or, without one, in requests a second: a rate is never 0.
_LEAST_SHARE, _LEAST = 1 / 64, 1 / 60
# The rate is halved if this share of the last calls got a 429: some servers reject a few calls at any rate.
_LAST_CALLS, _MANY = 32, 0.2


class Pace:
    """A rate limit in units a second, spread evenly: each reservation delays later ones.

    `most` is infinite if there is no limit; then only 429s set a rate.
    """

    def __init__(self, most: float = math.inf) -> None:
        self.most = self.rate = most
        self._least = most * _LEAST_SHARE if most < math.inf else _LEAST
        self._open_at = 0.0
        self._started: deque[tuple[float, float]] = deque()

    def reserve(self, amount: float, now: float) -> float:
        """Reserve an amount; return the time when it may start."""
        start = max(now, self._open_at)
        self._open_at = start + amount / self.rate
        self._started.append((start, amount))
        while self._started and self._started[0][0] < start - _WINDOW_S:
            self._started.popleft()
        return start

    def correct(self, by: float) -> None:
        """Reserve more, or release if negative, after an amount differed from its estimate."""
        self._open_at += by / self.rate

    def observed(self, now: float) -> float:
        """Return the amount started a second in the last few seconds."""
        return sum(amount for _, amount in self._started) / max(1.0, now - self._started[0][0])

    def slow(self, now: float) -> None:
        """Halve the set or observed rate, whichever is lower, down to a floor."""
        self.rate = max(self._least, _SLOWER * min(self.rate, self.observed(now)))

    def quicken(self, amount: float) -> None:
        """Raise the rate a little after an amount succeeded."""
        self.rate = min(self.most, self.rate + _FASTER * amount)

    def restart(self, at: float) -> None:
        """Drop all reservations: waiting calls reserve anew, from this time on."""
        self._open_at = at


@dataclass
class Slot:
    """A call that may start: when it reserved, the tokens reserved, and those its answer reports."""

    reserved_at: float
    tokens: float
    used: float | None = None
    answered: bool = False


class Limits:
    """The limits of one wire; None for a rate is no limit but `concurrency` and 429s."""

    def __init__(
        self, concurrency: int, requests_per_minute: float | None = None, tokens_per_minute: float | None = None
    ) -> None:
        self._free = asyncio.Semaphore(concurrency)
        self.requests, self.tokens = (
            Pace(minutely / 60.0 if minutely else math.inf) for minutely in (requests_per_minute, tokens_per_minute)
        )
        self._paused_at = self._paused_until = self._slowed_at = -math.inf
        self._estimated = self._billed = 0.0
        self._last_rejected: deque[bool] = deque(maxlen=_LAST_CALLS)
        self._waiting: set[asyncio.Task[Any]] = set()
        self._shut = False
        self.timings = Timings()

    @property
    def lowered_per_minute(self) -> float | None:
        """Requests a minute after 429s lowered the rate; None at the set rate."""
        return None if self.requests.rate >= self.requests.most else 60.0 * self.requests.rate

    @asynccontextmanager
    async def slot(self, tokens: float = 0.0) -> AsyncIterator[Slot]:
        """Wait until another request, of `tokens` by estimate, may start; its tokens are released if it fails."""
        with self._queueing():
            await self._free.acquire()
        try:
            with self._queueing():
                slot = await self._reserve(tokens)
            try:
                yield slot
            finally:
                self._settle(slot, tokens)
        finally:
            self._free.release()

    async def again(self, slot: Slot, tokens: float = 0.0) -> None:
        """Wait until a call that got a 429, and so used no tokens, may be repeated; it keeps its place."""
        self._release(slot)
        with self._queueing():
            renewed = await self._reserve(tokens)
        slot.reserved_at, slot.tokens = renewed.reserved_at, renewed.tokens

    async def sleep(self, seconds: float) -> None:
        """Wait before another attempt."""
        with self._queueing():
            await asyncio.sleep(seconds)

    def shut(self) -> None:
        """Start nothing more: waiting calls are cancelled, later ones raise Closing, running ones continue."""
        self._shut = True
        for task in tuple(self._waiting):
            task.cancel()

    def pause(self, seconds: float) -> None:
        """Start nothing for `seconds`, as the server asked for."""
        now = asyncio.get_running_loop().time()
        if (until := now + seconds) > self._paused_until:
            self._paused_at, self._paused_until = now, until
            self.requests.restart(until)
            self.tokens.restart(until)

    def rejected(self, slot: Slot) -> None:
        """Record a 429; halve the rates if there are many, once for all calls that reserved before the last halving."""
        if slot.reserved_at <= self._slowed_at:
            return
        self._last_rejected.append(True)
        if len(self._last_rejected) < _LAST_CALLS or sum(self._last_rejected) < _MANY * _LAST_CALLS:
            return
        self._last_rejected.clear()
        now = self._slowed_at = asyncio.get_running_loop().time()
        self.requests.slow(now)
        if self.tokens.most < math.inf:
            self.tokens.slow(now)

    def answered(self, slot: Slot, tokens: float | None) -> None:
        """Record an answer and its tokens, None if not reported; raise the rates a little."""
        slot.used, slot.answered = tokens, True
        self._last_rejected.append(False)
        self.requests.quicken(1.0)
        self.tokens.quicken(slot.tokens)

    @contextmanager
    def _queueing(self) -> Iterator[None]:
        """Register the current task as waiting, so that `shut` may cancel it."""
        if self._shut:
            raise Closing("the judge is closing")
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            yield
        finally:
            self._waiting.discard(task)

    async def _reserve(self, estimate: float) -> Slot:
        tokens = estimate * (self._billed / self._estimated if self._estimated else 1.0)
        loop, start, reserved_at = asyncio.get_running_loop(), -math.inf, -math.inf
        # Calls reserve before they wait, so that they start one after another. After a pause all reserve anew, since
        # they would otherwise start together.
        while reserved_at < 0 or start < self._paused_until:
            reserved_at = loop.time()
            now = max(reserved_at, self._paused_until)
            start = max(self.requests.reserve(1.0, now), self.tokens.reserve(tokens, now))
            if start > reserved_at:
                await asyncio.sleep(start - reserved_at)
        return Slot(reserved_at=reserved_at, tokens=tokens)

    def _settle(self, slot: Slot, estimate: float) -> None:
        if slot.used is not None:
            # Later estimates are scaled by this ratio; those of running calls are not.
            self._estimated, self._billed = self._estimated + estimate, self._billed + slot.used
            self.tokens.correct(slot.used - slot.tokens)
        elif not slot.answered:
            self._release(slot)

    def _release(self, slot: Slot) -> None:
        """Release the tokens of a failed call; a pause has already dropped those reserved before it."""
        if slot.reserved_at > self._paused_at:
            self.tokens.correct(-slot.tokens)
        slot.tokens = 0.0


@dataclass(frozen=True)
class Waits:
    """Latencies and waits, seconds: `latencies` from when each request may start to its answer, `connect_wait_s` the
    longest wait for a connection. `retries` counts repeated requests. `slowed_to_per_minute` is the rate after 429s
    slowed it, 0 if they did not.
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
        """Add the latency of an answer; `again` if the request had been sent before."""
        with self._lock:
            self._latencies.append(seconds)
            self._retries += again

    def failed(self, again: bool) -> None:
        """Add a request without answer; `again` if it had been sent before."""
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
