"""The process that minds another: what of the other's end it hands on."""

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

PROGRAM = """
import os, signal, sys, time
from dar_jax.hosts import supervisor
def run():
    {run}
sys.exit(supervisor.mind(run))
"""


def mind(run):
    command = [sys.executable, "-c", PROGRAM.format(run=run)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("run", "status", "said"),
    [
        ("return 3", 3, ""),
        ("raise ValueError('a fault')", 1, "ValueError: a fault\n"),
        ("os.abort()", 134, "dar-jax: the run's process was ended by SIGABRT\n"),
        ("supervisor.tell('they did not come'); os.abort()", 6, "dar-jax: they did not come\n"),
        (
            "supervisor.tell('early'); supervisor.tell(''); os.abort()",
            134,
            "dar-jax: the run's process was ended by SIGABRT\n",
        ),
        ("supervisor.tell('gone', silent='127.0.0.1:1'); os.abort()", 6, "dar-jax: gone\n"),
        ("supervisor.tell('gone'); os.kill(os.getpid(), 9)", 137, "dar-jax: the run's process was ended by SIGKILL\n"),
    ],
)
def test_the_end_of_a_run_is_told(run, status, said):
    ended = mind(run)
    assert ended.returncode == status
    assert ended.stderr.endswith(said)


def test_a_coordinator_that_answers_is_not_called_gone():
    def answer():
        connection, _ = coordinator.accept()
        with connection:
            connection.recv(100)
            connection.sendall(bytes(9))

    with socket.create_server(("127.0.0.1", 0)) as coordinator:
        thread = threading.Thread(target=answer)
        thread.start()
        ended = mind(f"supervisor.tell('gone', silent='127.0.0.1:{coordinator.getsockname()[1]}'); os.abort()")
        thread.join()
    assert ended.returncode == 134
    assert "gone" not in ended.stderr


def test_a_stopped_coordinator_is_called_gone_though_its_port_is_open():
    with socket.create_server(("127.0.0.1", 0)) as coordinator:
        place = f"127.0.0.1:{coordinator.getsockname()[1]}"
        ended = mind(f"supervisor.tell('gone', silent={place!r}); os.abort()")
    assert (ended.returncode, ended.stderr) == (6, "dar-jax: gone\n")


def test_signals_reach_the_run():
    code = PROGRAM.format(run="signal.signal(15, lambda *_: os._exit(5)); print('up', flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n"
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(30) == 5


def test_nothing_is_told_without_a_minder():
    from dar_jax.hosts import supervisor

    supervisor.tell("to nobody")
