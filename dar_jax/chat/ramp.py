"""Open connections gradually: a few at once at first, more with each that the server accepts promptly.

A server with a short backlog (Python's http.server keeps 5) drops further connections; the kernel then retries
after 1, 3, 7, 15 and more seconds, however fast the server is. A connection counts as opening until its first
answer, or for a moment after it is established: until then the server may not have accepted it.
"""

import asyncio
from collections import deque
from contextvars import ContextVar

# A connection slower than the fastest by this much has lost its first packet, which TCP resends after a second.
_LATE_S = 0.9
# Longer than a working server takes to accept a connection.
_SETTLED_S = 0.1
_FIRST, _FEWEST = 4.0, 2.0
# Seconds to connect, with TLS: as in the openai SDK. TCP sends its first packet at 0, 1 and 3 s.
CONNECT_S = 5.0
# Idle connections are kept from one training step to the next.
KEPT_S = 300.0

# Whether the current request has no connection yet.
CONNECTING: ContextVar[bool] = ContextVar("CONNECTING", default=False)


class Ramp:
    """Limits the connections being opened to `width` at once.

    The width doubles with each round of prompt connections up to where the server last failed to keep up, and grows by
    one a round beyond that; a connection that failed or was late halves it. Used from one event loop only.
    """

    def __init__(self) -> None:
        self.width, self.most_at_once = _FIRST, 0
        self._limit = float("inf")
        self._opening = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._late_at = self._longest_s = 0.0
        self._fastest_s = float("inf")

    async def enter(self) -> "Opening":
        """Wait until one more connection may be opened."""
        now = asyncio.get_running_loop().time
        since = now()
        CONNECTING.set(True)
        if self._waiting or self._opening >= int(self.width):
            await self._turn()
        else:
            self._opening += 1
        self.most_at_once = max(self.most_at_once, self._opening)
        return Opening(self, since, now())

    def take_longest_s(self) -> float:
        """Return the longest wait for a connection since the last call, seconds."""
        longest, self._longest_s = self._longest_s, 0.0
        return longest

    def waited(self, seconds: float) -> None:
        """Record how long a request waited for its connection."""
        self._longest_s = max(self._longest_s, seconds)

    def took(self, seconds: float) -> bool:
        """Record how long a connection took; return whether that was prompt."""
        self._fastest_s = min(self._fastest_s, seconds)
        return seconds <= self._fastest_s + _LATE_S

    def leave(self, prompt: bool) -> None:
        """Record that a connection is open or abandoned, so that others can be opened."""
        self._opening -= 1
        if prompt:
            self.width += 1.0 if self.width < self._limit else 1.0 / self.width
        self._wake()

    def late(self, started: float) -> None:
        """Halve the width, once for all connections started before the last halving."""
        if started <= self._late_at:
            return
        self._late_at = asyncio.get_running_loop().time()
        self.width = self._limit = max(_FEWEST, self.width / 2)

    async def _turn(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._opening -= 1
                self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self._opening < int(self.width):
            turn = self._waiting.popleft()
            if not turn.done():
                self._opening += 1
                turn.set_result(None)


class Opening:
    """One connection being opened. Ends with `answered`, `failed`, or a moment after `connected`."""

    def __init__(self, ramp: Ramp, since: float, started: float) -> None:
        self._ramp, self._since, self._started = ramp, since, started
        self._ended = False
        self._prompt = True

    def connected(self) -> None:
        """Record that the connection is made."""
        loop = asyncio.get_running_loop()
        CONNECTING.set(False)
        self._ramp.waited(loop.time() - self._since)
        if not self._ramp.took(loop.time() - self._started):
            self._prompt = False
            self._ramp.late(self._started)
        loop.call_later(_SETTLED_S, self.answered)

    def answered(self) -> None:
        """Record that the server has accepted the connection."""
        if not self._ended:
            self._ended = True
            self._ramp.leave(self._prompt)

    def failed(self) -> None:
        """Record that the connection, or its first answer, failed."""
        if not self._ended:
            self._ended = True
            self._ramp.waited(asyncio.get_running_loop().time() - self._since)
            self._ramp.late(self._started)
            self._ramp.leave(prompt=False)

    def given_up(self) -> None:
        """Record that the request was cancelled."""
        if not self._ended:
            self._ended = True
            self._ramp.leave(prompt=False)
