"""How many requests are under way at once, and how many start in a minute."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Limits:
    """The one gate of a wire. `requests_per_minute` None means no limit but `concurrency`."""

    def __init__(self, concurrency: int, requests_per_minute: float | None = None) -> None:
        self._free = asyncio.Semaphore(concurrency)
        self._interval_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._open_at = 0.0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait until one more request may be under way."""
        async with self._free:
            await self._turn()
            yield

    def pause(self, seconds: float) -> None:
        """Start nothing for so long: the server said that everyone comes too fast."""
        self._open_at = max(self._open_at, asyncio.get_running_loop().time() + seconds)

    async def _turn(self) -> None:
        now = asyncio.get_running_loop().time()
        start = max(now, self._open_at)
        # Reserved before waiting, so that those who wait together leave one interval apart.
        self._open_at = start + self._interval_s
        if start > now:
            await asyncio.sleep(start - now)
