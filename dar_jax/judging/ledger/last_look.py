"""A last look into the ledger, right before a question is sent."""

import dataclasses

from dar_jax.chat.wire import Answer, Chat, Request
from dar_jax.judging.ledger.ledger import Ledger
from dar_jax.records import Usage


class LastLook:
    """A wire for one question that sends nothing where the ledger holds the answer by now: while the question waited
    for its turn, another process may have bought it. `found` says so.
    """

    def __init__(self, chat: Chat, ledger: Ledger, key: str) -> None:
        self._chat, self._ledger, self._key, self.ramp = chat, ledger, key, chat.ramp
        self.found: Answer | None = None

    async def ask(self, request: Request, timeout_s: float) -> Answer:
        """Send the request once, or return what is there. Raises what the wire does, and DarError."""
        self.found = self._ledger.get_now(self._key)
        if self.found is None:
            return await self._chat.ask(request, timeout_s)
        return dataclasses.replace(self.found, usage=Usage())  # no token of any limit was used

    async def close(self) -> None:
        """Leave the wire open: it is not this question's alone."""
