"""Batch calls from coroutines to a worker thread: everything queued meanwhile goes in one call.

Switching to a thread and back costs more than writing a row; here a batch shares one switch.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

# Questions and answers come one by one. A transaction for each answer would take a sixth of a judgement's CPU time, and
# a judge takes much longer than this.
_GATHER_S = 0.005

Item = TypeVar("Item")
Result = TypeVar("Result")
_Waiting = list[tuple[Item, "asyncio.Future[Result]"]]


class BatchedCalls(Generic[Item, Result]):
    """A callable from an item to the result of `work`, which runs on the thread with a batch of items.

    If `work` raises, all callers of the batch raise. Cancelling a caller affects neither its item nor the other
    callers.
    """

    def __init__(self, thread: Executor, work: Callable[[Sequence[Item]], Sequence[Result]]) -> None:
        self._thread, self._work = thread, work
        self._waiting: _Waiting[Item, Result] = []
        self._lock = threading.Lock()

    async def __call__(self, item: Item) -> Result:
        """Wait for the item's result."""
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiting.append((item, result))
            is_first = len(self._waiting) == 1
        if is_first:
            self._thread.submit(self._drain)
        return await result

    def _drain(self) -> None:
        time.sleep(_GATHER_S)
        with self._lock:
            batch, self._waiting = self._waiting, []
        results: Sequence[Result] | Exception
        try:
            results = self._work([item for item, _ in batch])
        except Exception as error:  # raised in the callers
            results = error
        futures = [future for _, future in batch]
        for loop in {future.get_loop() for future in futures}:
            # Nothing waits in a loop that has ended.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, loop, futures, results)


def _settle(
    loop: asyncio.AbstractEventLoop, futures: Sequence["asyncio.Future[Result]"], results: Sequence[Result] | Exception
) -> None:
    for place, future in enumerate(futures):
        if future.get_loop() is not loop or future.done():
            continue
        if isinstance(results, Exception):
            future.set_exception(results)
        else:
            future.set_result(results[place])
