"""The only retry layer: SDK retries are off, so that attempts do not multiply."""

import asyncio
import random
from dataclasses import dataclass

from dar_jax.chat.failures import ChatError, NotConnected, OutOfFiles, RateLimited, TooSlow, Transient
from dar_jax.chat.limits import Limits, Slot
from dar_jax.chat.ramp import CONNECTING
from dar_jax.chat.wire import Answer, Chat, Request

# An attempt with less time than this before the deadline would be billed but not be answered in time.
_TOO_LATE_S = 0.1


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """The retry policy of a call, in seconds. `deadline_s` is for the whole call from its first attempt on.

    `attempts` does not count 429s, which only the deadline limits, nor failed connections, of which as many more are
    allowed. While no more files can be opened, only the deadline counts.
    """

    attempts: int = 6
    attempt_timeout_s: float = 60.0
    deadline_s: float = 180.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 20.0

    def wait_s(self, attempts: int, error: Transient) -> float:
        """Return the jittered pause after a number of failures: the server's, else doubled each time."""
        if error.retry_after_s is not None:
            return error.retry_after_s * random.uniform(1.0, 1.1)
        doubled = min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(attempts - 1, 20))
        return doubled * random.uniform(0.5, 1.0)


async def ask(
    chat: Chat,
    request: Request,
    retry_policy: RetryPolicy,
    limits: Limits,
    start_by: float = float("inf"),
    tokens: int = 0,
) -> tuple[Answer, int]:
    """Send a request until there is an answer; return it with the number of attempts.

    `tokens` is the estimated usage. A call that has not started by the loop time `start_by` gives up. Raises ChatError,
    with `attempts` set: at once if a retry cannot help, else the last reason.
    """
    call = _Call(retry_policy, start_by)
    while True:
        async with limits.slot(tokens) as slot:
            result = await _attempt(chat, request, call, limits, slot)
            while isinstance(result, _Failed) and result.rate_limited:
                # It keeps its slot: its deadline would pass behind thousands of calls that have not started.
                await limits.sleep(result.wait_s)
                await limits.again(slot, tokens)
                result = await _attempt(chat, request, call, limits, slot)
        if isinstance(result, Answer):
            return result, call.attempts
        await limits.sleep(result.wait_s)


@dataclass(frozen=True)
class _Failed:
    """A failed attempt, the seconds until the next, and whether it got a 429."""

    wait_s: float
    rate_limited: bool


async def _attempt(chat: Chat, request: Request, call: "_Call", limits: Limits, slot: Slot) -> Answer | _Failed:
    """Run one attempt. Raises ChatError if it was the last."""
    timeout_s, start = call.begin(), asyncio.get_running_loop().time()
    try:
        answer = await _send(chat, request, timeout_s)
    except ChatError as error:
        if rate_limited := isinstance(error, RateLimited):
            limits.rejected(slot)
        reason = call.failed(error, timeout_s)
        limits.timings.failed(not isinstance(error, NotConnected) and call.attempts > 1)
        wait_s = call.wait_s(reason)
        if isinstance(reason, RateLimited) and reason.retry_after_s:
            limits.pause(reason.retry_after_s)
        return _Failed(wait_s, rate_limited)
    limits.timings.answered(asyncio.get_running_loop().time() - start, call.attempts > 1)
    used = answer.usage
    limits.answered(slot, used.input_tokens + used.output_tokens if used else None)
    return answer


class _Call:
    """The progress of a call: attempts, failures, deadline."""

    def __init__(self, policy: RetryPolicy, start_by: float) -> None:
        self._policy, self._start_by = policy, start_by
        self._now = asyncio.get_running_loop().time
        self._deadline, self._failures, self._unconnected = 0.0, 0, 0
        self._started = False
        self._reason: ChatError | None = None
        self.attempts = 0

    def begin(self) -> float:
        """Count an attempt and return its timeout, seconds. Raises the last reason if too little time is left."""
        if not self._started:
            if self._now() > self._start_by:
                raise self._final(TooSlow("the batch's deadline passed before the request could start"))
            self._started, self._deadline = True, self._now() + self._policy.deadline_s
        left_s = self._deadline - self._now()
        if self._reason is not None and left_s < _TOO_LATE_S:
            raise self._final(self._reason)
        self.attempts += 1
        return min(self._policy.attempt_timeout_s, left_s)

    def failed(self, error: ChatError, timeout_s: float) -> ChatError:
        """Record a failure and return the reason to report."""
        # A timeout that the deadline shortened is not the server's fault: the earlier reason is kept.
        cut_short = isinstance(error, TooSlow) and timeout_s < self._policy.attempt_timeout_s
        if self._reason is None or not cut_short:
            self._reason = error
        if isinstance(error, NotConnected):
            self.attempts -= 1
            self._unconnected += not isinstance(error, OutOfFiles)
        else:
            self._failures += not isinstance(error, RateLimited)
        return self._reason

    def wait_s(self, reason: ChatError) -> float:
        """Return the seconds until the next attempt; raise the reason if there is none."""
        most = self._policy.attempts
        if not isinstance(reason, Transient) or max(self._failures, self._unconnected) >= most:
            raise self._final(reason)
        wait_s = self._policy.wait_s(self.attempts + self._unconnected, reason)
        if self._now() + wait_s + _TOO_LATE_S > self._deadline:
            raise self._final(reason)
        return wait_s

    def _final(self, reason: ChatError) -> ChatError:
        reason.attempts = self.attempts
        if self._unconnected > 1:
            reason.args = (f"{reason} ({self._unconnected} tries to connect)",)
        return reason


async def _send(chat: Chat, request: Request, timeout_s: float) -> Answer:
    CONNECTING.set(False)
    try:
        # The client's timeout covers single reads; this one covers a server that sends byte by byte.
        async with asyncio.timeout(timeout_s):
            return await chat.ask(request, timeout_s)
    except TimeoutError:
        if CONNECTING.get():
            raise NotConnected(f"no connection within {timeout_s:.3g} s") from None
        raise TooSlow(f"no answer within {timeout_s:.3g} s") from None
