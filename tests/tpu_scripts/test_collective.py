"""The smallest program of all hosts, on two real processes with two devices each."""

import os
import socket
import subprocess
import sys

from tests.tpu_scripts.stand_in import SCRIPTS


def _start(process, port):
    command = [sys.executable, str(SCRIPTS / "worker" / "collective.py"), "--timeout", "60"]
    command += ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process", str(process)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_all_hosts_add_up_the_same():
    port = _free_port()
    processes = [_start(process, port) for process in range(2)]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    last = [out.splitlines()[-1] for out, _ in said]
    assert last == [f"{socket.gethostname()}: process {i} of 2, 4 devices" for i in range(2)]
