"""The rate of calls, on a clock that jumps to the next timer: minutes pass at once."""

import asyncio
import contextlib
import random
from collections import Counter, deque

import pytest

from dar_jax.chat.failures import Closing, RateLimited, ServerFault
from dar_jax.chat.limits import Limits
from dar_jax.chat.retry import RetryPolicy, ask
from dar_jax.chat.wire import Answer, Request
from dar_jax.records import Message, Usage

REQUEST = Request(messages=(Message(role="user", content="?"),), max_tokens=1)


class Skipping(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer."""

    def __init__(self):
        super().__init__()
        self.now, look = 0.0, self._selector.select

        def skip(timeout=None):
            self.now += timeout or 0.0
            return look(0)

        self._selector.select = skip

    def time(self):
        return self.now


class Server:
    """Answers after `latency_s`; responds with 429 beyond `a_second` requests in the last second."""

    def __init__(self, a_second=float("inf"), latency_s=0.2, tokens=lambda: 0):
        self.a_second, self.latency_s, self.tokens = a_second, latency_s, tokens
        self.answered: list[tuple[float, int]] = []
        self.rate_limited: list[float] = []
        self._recent: deque[float] = deque()

    async def ask(self, request, timeout_s):
        now = asyncio.get_running_loop().time()
        while self._recent and self._recent[0] <= now - 1.0:
            self._recent.popleft()
        if len(self._recent) >= self.a_second:
            self.rate_limited.append(now)
            raise RateLimited("429")
        self._recent.append(now)
        used = self.tokens()
        self.answered.append((now, used))
        await asyncio.sleep(self.latency_s)
        return Answer(choices=(), served_model="m", usage=Usage(input_tokens=used, output_tokens=0))

    async def close(self):
        return


def judged(server, limits, count, tokens=0, patience=None):
    """Make `count` calls at once; return the seconds they took."""
    patience = patience or RetryPolicy(attempts=4, deadline_s=1e9)

    async def all_of_them():
        gate = limits()
        await asyncio.gather(*(ask(server, REQUEST, patience, gate, tokens=tokens) for _ in range(count)))
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=Skipping) as runner:
        return runner.run(all_of_them())


def a_second(starts):
    return Counter(int(now) for now, _ in starts)


def test_requests_are_spread_evenly_from_the_first_second_on():
    """A window of a minute would let hundreds of calls start in its first second."""
    server = Server()
    judged(server, lambda: Limits(256, requests_per_minute=300), 900)
    assert server.answered[-1][0] == pytest.approx(899 / 5)
    assert max(a_second(server.answered).values()) <= 6


@pytest.mark.parametrize("estimate", [400, 1600])
def test_the_token_rate_is_that_of_billed_tokens(estimate):
    """Estimates are wrong by a factor of two, either way; the billed rate is within 2 % of the setting."""
    draw = random.Random(0)
    server = Server(tokens=lambda: draw.randint(600, 1000))
    judged(server, lambda: Limits(64, tokens_per_minute=120_000), 1500, tokens=estimate)
    took_min = server.answered[-1][0] / 60
    assert took_min > 5
    assert sum(used for _, used in server.answered) / took_min == pytest.approx(120_000, rel=0.02)


def test_429s_lower_the_rate_to_the_servers():
    """Without a set rate: 64 concurrent calls are far above the server's rate, and every call is answered."""
    server = Server(a_second=10)
    took_s = judged(server, lambda: Limits(64), 6000)
    assert len(server.answered) == 6000
    assert 6000 / took_s > 0.8 * 10
    later = [now for now in server.rate_limited if now > 60]
    assert len(later) < 0.2 * 6000


@pytest.mark.parametrize("concurrency", [64, 256])
def test_a_rate_limited_call_keeps_its_place_before_calls_that_have_not_started(concurrency):
    """A whole step is submitted at once: at the end of the queue the deadline would pass."""
    server = Server(a_second=10)
    judged(server, lambda: Limits(concurrency), 4096, patience=RetryPolicy(deadline_s=180.0))
    assert len(server.answered) == 4096


def test_many_429s_at_once_halve_the_rate_once():
    async def wave(limits):
        async with contextlib.AsyncExitStack() as stack:
            for slot in [await stack.enter_async_context(limits.slot()) for _ in range(40)]:
                limits.rejected(slot)
        return limits.requests.rate

    async def waves():
        limits = Limits(64, requests_per_minute=6000)
        return [await wave(limits), await wave(limits)]

    with asyncio.Runner(loop_factory=Skipping) as runner:
        first, second = runner.run(waves())
    assert first == 20
    assert second == pytest.approx(10, rel=0.2)


def test_a_few_429s_do_not_lower_the_rate():
    draw = random.Random(0)
    server = Server()

    class Unreliable(Server):
        async def ask(self, request, timeout_s):
            if draw.random() < 0.05:
                raise RateLimited("429", retry_after_s=0.01)
            return await server.ask(request, timeout_s)

    took_s = judged(Unreliable(), lambda: Limits(64, requests_per_minute=6000), 3000)
    assert took_s < 1.1 * 3000 / 100


def test_answers_raise_the_rate_to_the_setting_again():
    async def recover():
        limits, rates = Limits(8, requests_per_minute=600), []
        for _ in range(32):
            async with limits.slot() as slot:
                limits.rejected(slot)
        assert limits.requests.rate < 10.0
        for _ in range(2000):
            async with limits.slot() as slot:
                limits.answered(slot, None)
            rates.append(limits.requests.rate)
        return rates

    with asyncio.Runner(loop_factory=Skipping) as runner:
        rates = runner.run(recover())
    assert rates == sorted(rates)
    assert rates[-1] == 10.0


def test_after_a_pause_waiting_calls_start_one_after_another():
    server = Server()

    async def paused():
        limits = Limits(64, requests_per_minute=600)
        calls = [asyncio.create_task(ask(server, REQUEST, RetryPolicy(), limits)) for _ in range(40)]
        await asyncio.sleep(1.05)
        limits.pause(20.0)
        await asyncio.gather(*calls)

    with asyncio.Runner(loop_factory=Skipping) as runner:
        runner.run(paused())
    after = [now for now, _ in server.answered if now > 2]
    assert min(after) >= 21.05
    assert max(a_second(server.answered).values()) <= 11


def test_a_rate_is_never_0():
    """Even if a server reports no usage and returns many 429s: a token rate of 0 would divide by 0."""
    draw = random.Random(0)
    server = Server()

    class Unreliable(Server):
        async def ask(self, request, timeout_s):
            if draw.random() < 0.35:
                raise RateLimited("429", retry_after_s=0.01)
            return await server.ask(request, timeout_s)

    gates = []

    def limits():
        gates.append(Limits(32, tokens_per_minute=60_000))
        return gates[0]

    judged(Unreliable(), limits, 300, tokens=500)
    assert len(server.answered) == 300
    assert gates[0].tokens.rate > 0


def test_a_failed_call_releases_its_tokens():
    """Otherwise an outage would delay later calls by tokens that were never used."""

    async def outage():
        limits = Limits(8, tokens_per_minute=60_000)
        for _ in range(20):
            with contextlib.suppress(ServerFault):
                async with limits.slot(10_000):
                    raise ServerFault("503")
        async with limits.slot(10_000):
            return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=Skipping) as runner:
        assert runner.run(outage()) < 1.0


def test_an_answer_without_usage_keeps_its_reserved_tokens():
    async def answered():
        limits = Limits(8, tokens_per_minute=60_000)
        for _ in range(3):
            async with limits.slot(1_000) as slot:
                limits.answered(slot, None)
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=Skipping) as runner:
        assert runner.run(answered()) == pytest.approx(2.0)


def test_shut_limits_let_running_calls_finish_and_start_no_others():
    async def shut():
        server, limits = Server(latency_s=1.0), Limits(2)
        calls = [asyncio.create_task(ask(server, REQUEST, RetryPolicy(), limits)) for _ in range(5)]
        await asyncio.sleep(0.5)
        limits.shut()
        found = await asyncio.gather(*calls, return_exceptions=True)
        with pytest.raises(Closing):
            await ask(server, REQUEST, RetryPolicy(), limits)
        return found

    with asyncio.Runner(loop_factory=Skipping) as runner:
        found = runner.run(shut())
    assert [isinstance(each, tuple) for each in found] == [True, True, False, False, False]
    assert all(isinstance(each, asyncio.CancelledError) for each in found[2:])
