import asyncio
import time
from collections.abc import Callable

import pytest

from dar_jax.chat.failures import ChatError, NotConnected, OutOfFiles, RateLimited, Rejected, ServerFault, TooSlow
from dar_jax.chat.limits import Limits
from dar_jax.chat.ramp import CONNECTING
from dar_jax.chat.retry import RetryPolicy, ask
from dar_jax.chat.wire import Answer, Request
from dar_jax.records import Message

REQUEST = Request(messages=(Message(role="user", content="?"),), max_tokens=1)
ANSWER = Answer(choices=(), served_model="m")
QUICK = RetryPolicy(attempts=4, first_wait_s=0.01, longest_wait_s=0.02, deadline_s=5.0)


class Failing:
    """Raises one of the errors at each call, then answers; records the times of the calls."""

    def __init__(self, *errors: ChatError, latency_s: float = 0.0) -> None:
        self.errors, self.latency_s = list(errors), latency_s
        self.times: list[float] = []
        self.under_way = self.most = 0

    async def ask(self, request: Request, timeout_s: float) -> Answer:
        self.times.append(time.monotonic())
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self.latency_s)
        finally:
            self.under_way -= 1
        if self.errors:
            raise self.errors.pop(0)
        return ANSWER

    async def close(self) -> None:
        return


def run(chat: Failing, patience: RetryPolicy = QUICK, limits: Callable[[], Limits] = lambda: Limits(1)):
    async def once():
        return await ask(chat, REQUEST, patience, limits())

    return asyncio.run(once())


def test_transient_errors_are_retried():
    assert run(Failing(ServerFault("500"), TooSlow("slow"))) == (ANSWER, 3)


def test_the_last_reason_is_raised_after_the_last_attempt():
    chat = Failing(*(ServerFault(f"fault {i}") for i in range(9)))
    with pytest.raises(ServerFault, match="fault 3") as caught:
        run(chat)
    assert caught.value.attempts == len(chat.times) == 4


def test_a_rejection_is_not_retried():
    chat = Failing(Rejected("401"))
    with pytest.raises(Rejected):
        run(chat)
    assert len(chat.times) == 1


def test_one_429_does_not_become_three():
    """The server's delay is respected, unlike in nextmoe PR 193."""
    chat = Failing(RateLimited("429", retry_after_s=0.3))

    assert run(chat) == (ANSWER, 2)
    assert chat.times[1] - chat.times[0] >= 0.3


def test_a_pause_delays_all_calls():
    chat = Failing()

    async def after_pause():
        limits = Limits(4)
        limits.pause(0.2)
        start = time.monotonic()
        await asyncio.gather(*(ask(chat, REQUEST, QUICK, limits) for _ in range(3)))
        return start

    start = asyncio.run(after_pause())
    assert min(chat.times) - start >= 0.19


def test_rate_limits_end_with_the_deadline_not_the_attempts():
    chat = Failing(*(RateLimited("429", retry_after_s=0.02) for _ in range(1000)))
    patience = RetryPolicy(attempts=2, deadline_s=0.4)
    with pytest.raises(RateLimited):
        run(chat, patience)
    assert len(chat.times) > 4


def test_a_delay_beyond_the_deadline_fails_at_once():
    start = time.monotonic()
    with pytest.raises(RateLimited):
        run(Failing(RateLimited("429", retry_after_s=3600.0)))
    assert time.monotonic() - start < 1


def test_a_server_that_never_answers_times_out():
    """Whatever timeouts the SDK has (DeepEyes#27)."""
    chat = Failing(latency_s=60.0)
    with pytest.raises(TooSlow, match=r"no answer within 0\.05 s"):
        run(chat, RetryPolicy(attempts=2, attempt_timeout_s=0.05, first_wait_s=0.01))
    assert len(chat.times) == 2


def test_limits_keep_concurrency_and_rate():
    chat = Failing(latency_s=0.02)

    async def many(limits: Limits):
        await asyncio.gather(*(ask(chat, REQUEST, QUICK, limits) for _ in range(9)))

    asyncio.run(many(Limits(3)))
    assert chat.most == 3
    chat.times.clear()
    asyncio.run(many(Limits(9, requests_per_minute=60 / 0.03)))
    assert chat.times[-1] - chat.times[0] >= 8 * 0.03 * 0.95


def test_waits_double_with_jitter():
    patience = RetryPolicy(first_wait_s=1.0, longest_wait_s=4.0)
    waits = [patience.wait_s(failures, ServerFault("")) for failures in (1, 2, 3, 9)]
    for wait, ceiling in zip(waits, (1.0, 2.0, 4.0, 4.0), strict=True):
        assert ceiling / 2 <= wait <= ceiling
    assert len({patience.wait_s(1, ServerFault("")) for _ in range(5)}) > 1


def test_a_call_after_start_by_is_not_sent():
    chat = Failing()

    async def late():
        past = asyncio.get_running_loop().time() - 1
        return await ask(chat, REQUEST, QUICK, Limits(1), start_by=past)

    with pytest.raises(TooSlow, match="deadline") as caught:
        asyncio.run(late())
    assert not chat.times
    assert caught.value.attempts == 0


def test_a_shortened_last_attempt_keeps_the_reason():
    class Late(Failing):
        async def ask(self, request: Request, timeout_s: float) -> Answer:
            self.latency_s = 60.0 if self.times else 0.0
            return await super().ask(request, timeout_s)

    with pytest.raises(ServerFault, match="the reason") as caught:
        run(Late(ServerFault("the reason")), RetryPolicy(deadline_s=0.4, first_wait_s=0.01))
    assert caught.value.attempts == 2


def test_rate_limits_without_a_delay_back_off():
    chat = Failing(*(RateLimited("429") for _ in range(4)))
    run(chat, RetryPolicy(attempts=1, first_wait_s=0.02, deadline_s=5.0))
    gaps = [later - earlier for earlier, later in zip(chat.times, chat.times[1:], strict=False)]
    assert gaps[3] > 2 * gaps[0]


def test_a_failed_connection_is_not_an_attempt():
    chat = Failing(NotConnected("refused"), ServerFault("500"), NotConnected("refused"))
    assert run(chat, RetryPolicy(attempts=3, first_wait_s=0.01)) == (ANSWER, 2)


def test_a_server_that_is_down_raises_not_connected():
    chat = Failing(*(NotConnected("nobody listens") for _ in range(9)))
    with pytest.raises(NotConnected, match=r"nobody listens \(4 tries to connect\)") as caught:
        run(chat)
    assert caught.value.attempts == 0
    assert len(chat.times) == 4


def test_out_of_files_is_retried_until_the_deadline():
    chat = Failing(*(OutOfFiles() for _ in range(6)))
    assert run(chat, RetryPolicy(attempts=2, first_wait_s=0.01, longest_wait_s=0.02)) == (ANSWER, 1)
    chat = Failing(*(OutOfFiles() for _ in range(1000)))
    with pytest.raises(OutOfFiles):
        run(chat, RetryPolicy(attempts=2, first_wait_s=0.01, longest_wait_s=0.02, deadline_s=0.3))


def test_a_timeout_before_a_connection_is_not_an_attempt():
    class Unconnected(Failing):
        async def ask(self, request: Request, timeout_s: float) -> Answer:
            CONNECTING.set(True)
            return await super().ask(request, timeout_s)

    chat = Unconnected(latency_s=60.0)
    with pytest.raises(NotConnected, match=r"no connection within 0\.05 s") as caught:
        run(chat, RetryPolicy(attempts=2, attempt_timeout_s=0.05, first_wait_s=0.01))
    assert caught.value.attempts == 0


def test_latencies_and_retries_are_recorded():
    limits: list[Limits] = []

    def gate() -> Limits:
        limits.append(Limits(1))
        return limits[0]

    run(Failing(ServerFault("500"), NotConnected("refused"), latency_s=0.01), limits=gate)
    waits = limits[0].timings.take()
    assert waits.retries == 1
    assert len(waits.latencies) == 1
    assert waits.latencies[0] >= 0.01
    assert limits[0].timings.take().latencies == ()
