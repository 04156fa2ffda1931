"""The only retry layer: SDK retries are off, so that attempts never multiply."""

import asyncio
import random
from dataclasses import dataclass

from dar_jax.chat.errors import ChatError, RateLimited, TooSlow, Transient
from dar_jax.chat.limits import Limits
from dar_jax.chat.wire import Answer, Chat, Request


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to insist. Times are seconds; `attempts` does not count those a 429 turned away, which only
    `deadline_s`, the time of the whole call from its first attempt on, brings to an end.
    """

    attempts: int = 6
    attempt_timeout_s: float = 60.0
    deadline_s: float = 180.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 20.0

    def wait_s(self, failures: int, error: Transient) -> float:
        """Choose the pause after so many failures: what the server asked for, else doubled; jittered."""
        if error.retry_after_s is not None:
            return error.retry_after_s * random.uniform(1.0, 1.1)
        doubled = min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(failures - 1, 20))
        return doubled * random.uniform(0.5, 1.0)


async def ask(
    chat: Chat, request: Request, patience: Patience, limits: Limits, start_by: float = float("inf")
) -> tuple[Answer, int]:
    """Ask until an answer comes; return it with the number of attempts.

    `start_by` is the loop time after which a call that has not begun gives up. Raises ChatError, with
    `attempts` set: at once where no retry can help, else the last reason when patience ends.
    """
    loop, deadline, attempts, failures = asyncio.get_running_loop(), float("inf"), 0, 0
    while True:
        async with limits.slot():
            if not attempts:
                if loop.time() > start_by:
                    raise _with_attempts(TooSlow("its turn did not come before the batch's deadline"), 0)
                deadline = loop.time() + patience.deadline_s
            attempts += 1
            timeout_s = max(0.001, min(patience.attempt_timeout_s, deadline - loop.time()))
            try:
                return await _attempt(chat, request, timeout_s), attempts
            except ChatError as error:
                reason = error
        if not isinstance(reason, Transient):
            raise _with_attempts(reason, attempts)
        failures += not isinstance(reason, RateLimited)
        wait_s = patience.wait_s(max(failures, 1), reason)
        if failures >= patience.attempts or loop.time() + wait_s > deadline:
            raise _with_attempts(reason, attempts)
        if isinstance(reason, RateLimited) and reason.retry_after_s:
            limits.pause(reason.retry_after_s)
        await asyncio.sleep(wait_s)


async def _attempt(chat: Chat, request: Request, timeout_s: float) -> Answer:
    try:
        # The SDK's own timeout covers single reads; this one covers a server that drips.
        async with asyncio.timeout(timeout_s):
            return await chat.ask(request, timeout_s)
    except TimeoutError:
        raise TooSlow(f"no answer within {timeout_s:.3g} s") from None


def _with_attempts(error: ChatError, attempts: int) -> ChatError:
    error.attempts = attempts
    return error
