"""Ctrl-C and SIGTERM as a request: the run reaches a place it can resume from, saves, and leaves."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Remember that a signal came; a second one of the same kind acts at once, as without us."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Catch the signals inside; the former handlers come back after. One that is ignored stays ignored."""
        handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        former = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}

        def remember(number: int, frame: FrameType | None) -> None:
            self.received = signal.Signals(number)
            signal.signal(number, former[signal.Signals(number)])

        for number in former:
            signal.signal(number, remember)
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
