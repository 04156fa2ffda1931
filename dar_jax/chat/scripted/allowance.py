"""How many requests a minute the scripted server takes, as vendors count: what is unused is saved up for a second."""

import time

_SAVED_S = 1.0


class Allowance:
    """A bucket that fills by `per_minute`; it holds one second's share, one request at least."""

    def __init__(self, per_minute: float) -> None:
        self._per_s = per_minute / 60.0
        self._most = max(1.0, self._per_s * _SAVED_S)
        self._left, self._at = self._most, time.monotonic()

    def take(self) -> bool:
        """Take one request out, if there is one."""
        now = time.monotonic()
        self._left, self._at = min(self._most, self._left + (now - self._at) * self._per_s), now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
