import os
import signal
import threading

import pytest

from dar_jax.errors import Interrupted
from dar_jax.terminal.interrupts import Interrupts


@pytest.fixture(autouse=True)
def usual_handlers():
    """A process started in the background ignores SIGINT; these tests are about one that does not."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


def test_a_first_signal_is_remembered_and_a_second_acts():
    interrupts = Interrupts()
    with interrupts.caught():
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.received is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_former_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts().caught():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts = Interrupts()
    with interrupts.caught():
        os.kill(os.getpid(), signal.SIGINT)
    assert interrupts.received is None


def test_a_closed_terminal_asks_too_however_often():
    interrupts = Interrupts()
    with interrupts.caught():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
        assert interrupts.received is signal.SIGHUP


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_start_ends_at_once_also_where_a_library_catches_errors(number):
    def start():
        with Interrupts(starting=lambda: "Nothing was saved").caught():
            try:
                os.kill(os.getpid(), number)
            except Exception:
                pytest.fail("a library took the signal for an error of its own")

    with pytest.raises(Interrupted, match=f"{number.name} received before the first step. Nothing was saved"):
        start()


def test_after_the_start_a_signal_is_remembered():
    interrupts = Interrupts(starting=lambda: "")
    with interrupts.caught():
        interrupts.remember()
        os.kill(os.getpid(), signal.SIGTERM)
    assert interrupts.received is signal.SIGTERM


def test_a_run_in_another_thread_catches_nothing():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def run():
        with Interrupts().caught():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]
