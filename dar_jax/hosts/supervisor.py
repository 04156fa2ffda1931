"""The supervisor of a run's process: if jax aborts that, the supervisor reports why and returns the exit status.

jax's distributed client aborts its process when the coordinator is lost or not all hosts join, and no code of that
process runs any more. The run is therefore a child process, forked before jax is imported; the supervisor waits for it
and forwards signals.
"""

import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType

from dar_jax.errors import HostLost

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_CONNECT_TIMEOUT_S = 5.0
# HTTP/2's preface and an empty SETTINGS frame (RFC 9113, 3.4).
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))

_notes: int | None = None


def mind(run: Callable[[], int]) -> int:
    """Run in a child process; return its exit status, or that of HostLost if jax aborted it for lack of a host.

    The child is killed if its supervisor is killed.
    """
    alive, minder_alive = os.pipe()
    notes, child_notes = os.pipe()
    child = os.fork()
    if not child:
        os.close(minder_alive)
        os.close(notes)
        _be_the_child(run, alive, child_notes)
    os.close(alive)
    os.close(child_notes)
    _pass_signals_on(child)
    _, status = os.waitpid(child, 0)
    with os.fdopen(notes, encoding="utf-8") as told:
        last = (told.read().splitlines() or ["{}"])[-1]
    return _status(os.waitstatus_to_exitcode(status), **json.loads(last))


def tell(why: str, silent: str | None = None) -> None:
    """Set the message to print if this process aborts ("" for none); no-op without a supervisor.

    With `silent` (HOST:PORT) it is printed only if no gRPC server answers there.
    """
    if _notes is not None:
        os.write(_notes, f"{json.dumps({'why': why, 'silent': silent})}\n".encode())


def _be_the_child(run: Callable[[], int], alive: int, notes: int) -> None:
    global _notes
    _notes = notes
    # Ctrl-C in a terminal reaches only the supervisor, which forwards it: otherwise it would come twice.
    os.setpgid(0, 0)
    threading.Thread(target=_go_with_the_minder, args=(alive,), daemon=True).start()
    status = 1
    try:
        status = run()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _go_with_the_minder(alive: int) -> None:
    os.read(alive, 1)  # returns when the other end is closed
    os.kill(os.getpid(), signal.SIGKILL)


def _pass_signals_on(child: int) -> None:
    def pass_on(number: int, frame: FrameType | None) -> None:
        os.kill(child, number)

    for number in _PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)


def _status(code: int, why: str = "", silent: str | None = None) -> int:
    if code >= 0:
        return code
    if code == -signal.SIGABRT and why and not (silent and _answers(silent)):
        print(f"dar-jax: {why}", file=sys.stderr)
        return HostLost.exit_status
    print(f"dar-jax: the run's process was ended by {signal.Signals(-code).name}", file=sys.stderr)
    return 128 - code


def _answers(address: str) -> bool:
    """Return whether a gRPC server answers; the kernel accepts connections even for a stopped one."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S) as connection:
            connection.sendall(_HELLO)
            return bool(connection.recv(1))
    except OSError:
        return False
