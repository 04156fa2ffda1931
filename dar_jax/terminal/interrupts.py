"""Handle Ctrl-C, SIGTERM and SIGHUP as a request to save and end at the next point that can be resumed."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from dar_jax.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _AtOnce(KeyboardInterrupt):
    """Ends a start-up; libraries let it through as they do Ctrl-C."""


class Interrupts:
    """Records a signal. A second SIGINT or SIGTERM acts at once, as by default; a closed terminal may send several
    SIGHUP.

    With `starting`, a signal before `remember` is called raises Interrupted at once, since there is nothing to save
    yet; `starting` returns what its message ends with.
    """

    def __init__(self, starting: Callable[[], str] | None = None) -> None:
        self.received: signal.Signals | None = None
        self._starting, self._at_once = starting, starting is not None

    def remember(self) -> None:
        """From now on only record signals."""
        self._at_once = False

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Handle signals in the block and restore the former handlers after it. Ignored signals stay ignored.

        Outside the main thread, where Python handles no signals, nothing is caught.
        """
        former = _handlers()

        def handle(number: int, frame: FrameType | None) -> None:
            self.received = received = signal.Signals(number)
            if received is not signal.SIGHUP:
                signal.signal(number, former[received])
            if self._at_once:
                self._at_once = False
                raise _AtOnce

        for number in former:
            signal.signal(number, handle)
        try:
            yield
        except _AtOnce:
            assert self.received is not None
            assert self._starting is not None
            raise Interrupted(f"{self.received.name} received before the first step. {self._starting()}") from None
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def _handlers() -> dict[signal.Signals, Callable[[int, FrameType | None], object] | int]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    # None: set by a library outside Python, which could not be restored.
    return {number: each for number, each in handlers.items() if each is not None and each is not signal.SIG_IGN}
