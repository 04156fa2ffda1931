"""How many requests are under way at once, and how many requests and tokens start in a minute.

Room is reserved before a call and corrected when its answer says what it took. A server that turns many away (429)
slows the pace to half; answers quicken it again, a little at a time, up to what the settings allow.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from dar_jax.chat.failures import Closing
from dar_jax.chat.timings import Timings

_SLOWER = 0.5
# Gained in a second of answers: what half was lost of is back in 35 s.
_FASTER = 0.02
_WINDOW_S = 5.0
# What is left of a limit at the least, and the requests a second where none is set: a pace never comes to nothing.
_LEAST_SHARE, _LEAST = 1 / 64, 1 / 60
# Of so many calls such a share has to be turned away: some servers turn away a few whatever the pace.
_LOOKED_AT, _MANY = 32, 0.2


class Pace:
    """So much may start a second, evenly: what is reserved puts off whoever comes after it. `most` is infinite where
    nothing limits it; then only a server that turns calls away sets a pace.
    """

    def __init__(self, most: float = math.inf) -> None:
        self.most = self.rate = most
        self._least = most * _LEAST_SHARE if most < math.inf else _LEAST
        self._open_at = 0.0
        self._started: deque[tuple[float, float]] = deque()

    def reserve(self, amount: float, now: float) -> float:
        """Take room for an amount; return when it may start."""
        start = max(now, self._open_at)
        self._open_at = start + amount / self.rate
        self._started.append((start, amount))
        while self._started and self._started[0][0] < start - _WINDOW_S:
            self._started.popleft()
        return start

    def correct(self, by: float) -> None:
        """Give room back, or take more, where an amount was other than reserved."""
        self._open_at += by / self.rate

    def observed(self, now: float) -> float:
        """Say how much has started a second of late."""
        return sum(amount for _, amount in self._started) / max(1.0, now - self._started[0][0])

    def slow(self, now: float) -> None:
        """Halve the pace that there was, down to a floor."""
        self.rate = max(self._least, _SLOWER * min(self.rate, self.observed(now)))

    def quicken(self, amount: float) -> None:
        """Be a little faster than before, after so much went well."""
        self.rate = min(self.most, self.rate + _FASTER * amount)

    def restart(self, at: float) -> None:
        """Forget what was reserved: who waits will reserve anew, for this time at the earliest."""
        self._open_at = at


@dataclass
class Slot:
    """A call that may start: since when it had its place, the tokens reserved, and those its answer says it took."""

    placed: float
    tokens: float
    used: float | None = None
    answered: bool = False


class Limits:
    """The one gate of a wire. `requests_per_minute` and `tokens_per_minute` None: no limit but `concurrency`, and what
    the server turns away.
    """

    def __init__(
        self, concurrency: int, requests_per_minute: float | None = None, tokens_per_minute: float | None = None
    ) -> None:
        self._free = asyncio.Semaphore(concurrency)
        self.requests, self.tokens = (
            Pace(minutely / 60.0 if minutely else math.inf) for minutely in (requests_per_minute, tokens_per_minute)
        )
        self._paused_until = self._slowed_at = -math.inf
        self._estimated = self._billed = 0.0
        self._turned_away: deque[bool] = deque(maxlen=_LOOKED_AT)
        self._paused_at = -math.inf
        self._waiting: set[asyncio.Task[Any]] = set()
        self._shut = False
        self.timings = Timings()

    @property
    def learnt_per_minute(self) -> float | None:
        """How many requests a minute may start, where the server's 429s have made it fewer than are set; else None."""
        return None if self.requests.rate >= self.requests.most else 60.0 * self.requests.rate

    @asynccontextmanager
    async def slot(self, tokens: float = 0.0) -> AsyncIterator[Slot]:
        """Wait until one more request, of so many tokens by estimate, may be under way."""
        with self._queueing():
            await self._free.acquire()
        try:
            with self._queueing():
                slot = await self._turn(self._likely(tokens))
            try:
                yield slot
            finally:
                self._settle(slot, tokens)
        finally:
            self._free.release()

    async def again(self, slot: Slot, tokens: float = 0.0) -> None:
        """Wait until a call that was turned away may start once more, in the place that it has: it took no tokens."""
        self._give_back(slot)
        with self._queueing():
            turn = await self._turn(self._likely(tokens))
        slot.placed, slot.tokens = turn.placed, turn.tokens

    async def sleep(self, seconds: float) -> None:
        """Wait before another attempt."""
        with self._queueing():
            await asyncio.sleep(seconds)

    def shut(self) -> None:
        """Start nothing from now on: calls that wait here are cancelled, later ones raise Closing. What is under way
        goes on.
        """
        self._shut = True
        for task in tuple(self._waiting):
            task.cancel()

    @contextmanager
    def _queueing(self) -> Iterator[None]:
        """Mark the current call as one that has nothing under way."""
        if self._shut:
            raise Closing("the judge takes nothing new")
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            yield
        finally:
            self._waiting.discard(task)

    def _settle(self, slot: Slot, tokens: float) -> None:
        if slot.used is not None:
            # Answers tell how far the estimates are off: those of calls under way are not yet corrected.
            self._estimated, self._billed = self._estimated + tokens, self._billed + slot.used
            self.tokens.correct(slot.used - slot.tokens)
        elif not slot.answered:
            self._give_back(slot)

    def _give_back(self, slot: Slot) -> None:
        """Return the tokens of a call that failed; those reserved before a pause are forgotten already."""
        if slot.placed > self._paused_at:
            self.tokens.correct(-slot.tokens)
        slot.tokens = 0.0

    def pause(self, seconds: float) -> None:
        """Start nothing for so long: the server said that everyone comes too fast."""
        now = asyncio.get_running_loop().time()
        if (until := now + seconds) > self._paused_until:
            self._paused_at, self._paused_until = now, until
            self.requests.restart(until)
            self.tokens.restart(until)

    def turned_away(self, slot: Slot) -> None:
        """Go slower where this happens to many; once for all calls that had their place before that."""
        if slot.placed <= self._slowed_at:
            return
        self._turned_away.append(True)
        if len(self._turned_away) < _LOOKED_AT or sum(self._turned_away) < _MANY * _LOOKED_AT:
            return
        self._turned_away.clear()
        now = self._slowed_at = asyncio.get_running_loop().time()
        self.requests.slow(now)
        if self.tokens.most < math.inf:
            self.tokens.slow(now)

    def answered(self, slot: Slot, tokens: float | None) -> None:
        """Note what an answer took, None where the server does not say; go faster again."""
        slot.used, slot.answered = tokens, True
        self._turned_away.append(False)
        self.requests.quicken(1.0)
        self.tokens.quicken(slot.tokens)

    def _likely(self, tokens: float) -> float:
        return tokens * (self._billed / self._estimated if self._estimated else 1.0)

    async def _turn(self, tokens: float) -> Slot:
        loop, start, placed = asyncio.get_running_loop(), -math.inf, -math.inf
        # Reserved before waiting, so that those who wait together leave one after the other; anew where all were
        # stopped meanwhile, so that they do not leave together after that.
        while placed < 0 or start < self._paused_until:
            placed = loop.time()
            now = max(placed, self._paused_until)
            start = max(self.requests.reserve(1.0, now), self.tokens.reserve(tokens, now))
            if start > placed:
                await asyncio.sleep(start - placed)
        return Slot(placed=placed, tokens=tokens)
