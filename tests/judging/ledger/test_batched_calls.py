import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from dar_jax.errors import DarError
from dar_jax.judging.ledger.batched_calls import BatchedCalls


class Work:
    """Squares numbers, the batches of which it keeps; waits for `go` each time; fails on a batch with a -1."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()

    def __call__(self, numbers) -> list[int]:
        assert self.go.wait(10)
        self.batches.append(list(numbers))
        if -1 in numbers:
            raise DarError("unlucky")
        return [number**2 for number in numbers]


def gathered(steps):
    """Run a coroutine function that is given the work and the way to it."""
    work = Work()
    with ThreadPoolExecutor(1) as thread:
        return asyncio.run(steps(work, BatchedCalls(thread, work))), work


async def under_way(ask, numbers) -> list[asyncio.Task]:
    tasks = [asyncio.create_task(ask(number)) for number in numbers]
    await asyncio.sleep(0.05)
    return tasks


def test_what_has_gathered_shares_a_hop_and_each_gets_its_own():
    async def steps(work, ask):
        tasks = await under_way(ask, range(50))
        work.go.set()
        return await asyncio.gather(*tasks)

    found, work = gathered(steps)
    assert found == [number**2 for number in range(50)]
    assert len(work.batches) <= 2
    assert sorted([number for batch in work.batches for number in batch]) == list(range(50))


def test_a_caller_that_leaves_takes_nobody_with_it_and_its_item_is_done():
    async def steps(work, ask):
        tasks = await under_way(ask, [1, 2, 3])
        tasks[1].cancel()
        work.go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found, work = gathered(steps)
    assert found[::2] == [1, 9]
    assert isinstance(found[1], asyncio.CancelledError)
    assert sorted([number for batch in work.batches for number in batch]) == [1, 2, 3]


def test_a_failure_reaches_all_who_shared_it_and_nobody_else():
    async def steps(work, ask):
        tasks = await under_way(ask, [1])
        tasks += await under_way(ask, [-1, 2])
        work.go.set()
        failed = await asyncio.gather(*tasks, return_exceptions=True)
        return failed, await ask(4)

    (failed, after), _ = gathered(steps)
    assert [isinstance(each, DarError) for each in failed[1:]] == [True, True]
    assert after == 16


def test_a_loop_that_has_ended_leaves_the_work_done():
    work = Work()
    with ThreadPoolExecutor(1) as thread:
        ask = BatchedCalls(thread, work)

        async def leave():
            asyncio.create_task(ask(5))  # noqa: RUF006  whose loop ends before it
            await asyncio.sleep(0.05)

        asyncio.run(leave())
        work.go.set()
    assert work.batches == [[5]]


def test_threads_may_ask_at_once():
    work = Work()
    work.go.set()
    with ThreadPoolExecutor(1) as thread, ThreadPoolExecutor(4) as askers:
        ask = BatchedCalls(thread, work)

        def many(start: int) -> list[int]:
            async def all_of() -> list[int]:
                return await asyncio.gather(*(ask(number) for number in range(start, start + 100)))

            return asyncio.run(all_of())

        found = list(askers.map(many, range(1000, 1400, 100)))
    assert found == [[number**2 for number in range(start, start + 100)] for start in range(1000, 1400, 100)]
