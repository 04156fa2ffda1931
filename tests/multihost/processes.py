"""Real processes that are the hosts of one run: gloo collectives over this machine's loopback, two devices each."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax

TRAIN = ("-m", "tests.multihost.train", "train")


@dataclass
class Hosts:
    """The processes of a run, and what each says."""

    processes: list[subprocess.Popen]
    logs: list[Path]

    def wait(self, timeout_s: float = 300) -> list[int]:
        """Wait for all to end; return their exit statuses."""
        deadline = time.monotonic() + timeout_s
        try:
            return [each.wait(max(0.1, deadline - time.monotonic())) for each in self.processes]
        finally:
            self.stop()

    def stop(self) -> None:
        for each in self.processes:
            each.kill()
            each.wait()

    def said(self, host: int) -> str:
        return self.logs[host].read_text()

    def last(self, host: int) -> str:
        return self.said(host).strip().splitlines()[-1]


def start(
    program: Sequence[str],
    arguments: Sequence[Sequence[str]] | Sequence[str],
    folder: Path,
    count: int = 2,
    lost_after_s: int = 30,
    only: Sequence[int] | None = None,
    **environment: str,
) -> Hosts:
    """Start `count` processes of a program; `arguments` are those of all, or a list for each."""
    place = {"COORDINATOR": f"127.0.0.1:{free_port()}", "PROCESSES": count, "LOST_AFTER": lost_after_s}
    folder.mkdir(parents=True, exist_ok=True)
    started = Hosts([], [])
    for number in range(count) if only is None else only:
        own = arguments if not arguments or isinstance(arguments[0], str) else arguments[number]
        said = {f"DAR_JAX_{name}": str(value) for name, value in (place | {"PROCESS": number}).items()}
        log = folder / f"log-{number}"
        with log.open("w") as file:
            started.processes.append(
                subprocess.Popen(
                    [sys.executable, *program, *own],
                    env=surroundings(2) | said | environment,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            )
        started.logs.append(log)
    return started


def surroundings(devices: int) -> dict[str, str]:
    """Give the environment of a process with so many CPU devices, and the compiled programs of the others."""
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }


def until(condition, hosts: Hosts, timeout_s: float = 240) -> None:
    """Wait for a condition while all hosts run."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline or any(each.poll() is not None for each in hosts.processes):
            hosts.stop()
            raise AssertionError("".join(hosts.said(host) for host in range(len(hosts.logs))))
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
