"""An event loop in a daemon thread."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar

Result = TypeVar("Result")


class BackgroundLoop:
    """Runs coroutines for other threads; `close` cancels unfinished ones and ends the thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether the loop is closed to new work."""
        return self._loop.is_closed() or not self._thread.is_alive()

    def start(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Start a coroutine; return its future at once."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(
        self,
        last: Coroutine[Any, Any, None] | None = None,
        timeout_s: float = 10.0,
        *,
        drain: Coroutine[Any, Any, None] | None = None,
        drain_s: float = 0.0,
    ) -> None:
        """Run `drain` for up to `drain_s` seconds, cancel every task, run `last`, end the thread.

        Closing again does nothing. Ctrl-C ends only the draining.
        """
        if self.closed:
            for unused in filter(None, (last, drain)):
                unused.close()
            return
        try:
            if drain is not None:
                wait([self.start(drain)], drain_s)
        finally:
            self._cancel(last, timeout_s)

    def _cancel(self, last: Coroutine[Any, Any, None] | None, timeout_s: float) -> None:
        ending = self.start(self._end(last))
        try:
            done, _ = wait([ending], timeout_s)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout_s)
        # Tasks that did not end in time are left to the daemon thread; failures are raised.
        for future in done:
            future.result()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _end(self, last: Coroutine[Any, Any, None] | None) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if last is not None:
            await last
        await self._loop.shutdown_asyncgens()
