"""Share the devices of this machine among concurrent processes, each of which sees only its own.

The parent must not open the devices itself, so a short-lived process counts them.
"""

import os
import subprocess
import sys
from collections.abc import Mapping

from dar_jax.errors import SettingError

# On TPU v2 and v3 a chip is two devices of JAX; what a process is given is chips.
_COUNT = """\
import jax
print(jax.default_backend(), len({tuple(getattr(d, "coords", None) or [d.id]) for d in jax.local_devices()}))
"""
# Chips of one process, as libtpu lays them out.
_BOUNDS = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}


def shares(jobs: int) -> list[Mapping[str, str]]:
    """Return the environment of each of `jobs` processes, which selects its devices.

    On CPUs each gets its share of the cores as threads. Raises SettingError if there are fewer devices than processes.
    """
    if jobs == 1:
        return [{}]
    backend, count = count_devices()
    return share(backend, count, jobs, os.environ.get("CUDA_VISIBLE_DEVICES"))


def count_devices() -> tuple[str, int]:
    """Return JAX's backend and its number of devices. Raises SettingError if JAX does not start."""
    found = subprocess.run([sys.executable, "-c", _COUNT], capture_output=True, text=True, check=False)
    if found.returncode:
        last = (found.stderr.strip() or "no message").splitlines()[-1]
        raise SettingError(f"--jobs: the devices of this machine cannot be counted: {last}; leave it out")
    backend, count = found.stdout.split()[-2:]
    return backend, int(count)


def share(backend: str, count: int, jobs: int, visible: str | None = None) -> list[Mapping[str, str]]:
    """Return the environments that split `count` devices equally; `visible` are CUDA's device names."""
    if backend == "cpu":
        # XLA takes it for the count of cores; with a thread a core for each, processes hold each other up.
        return [{"NPROC": str(max(1, (os.cpu_count() or 1) // jobs))}] * jobs
    each = count // jobs
    if not each:
        raise SettingError(f"--jobs {jobs}: this machine has {count} {backend} devices, and a run needs one; lower it")
    parts = [range(job * each, (job + 1) * each) for job in range(jobs)]
    if backend == "tpu":
        if each not in _BOUNDS:
            raise SettingError(f"--jobs {jobs}: {each} TPU chips each cannot be laid out; choose {_ways(count)}")
        return [_tpu(part) for part in parts]
    names = visible.split(",") if visible else [str(index) for index in range(count)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(names[index] for index in part)} for part in parts]


def _tpu(chips: range) -> Mapping[str, str]:
    # As jax/_src/test_multiprocess.py has it; each process is a machine of its own.
    return {
        "TPU_VISIBLE_CHIPS": ",".join(map(str, chips)),
        "TPU_CHIPS_PER_PROCESS_BOUNDS": _BOUNDS[len(chips)],
        "TPU_PROCESS_BOUNDS": "1,1,1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }


def _ways(count: int) -> str:
    return " or ".join(str(jobs) for jobs in range(1, count + 1) if count // jobs in _BOUNDS)
