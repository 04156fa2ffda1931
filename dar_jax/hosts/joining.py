"""How a process finds the other hosts: flags, the environment, or the metadata of a TPU pod."""

import os
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dar_jax.errors import SettingError

START_TIMEOUT_S = 300
LOST_AFTER_S = 60
_GOOGLE = "0x1ae0"
_METADATA = "http://{}/computeMetadata/v1/instance/attributes/worker-network-endpoints"
_METADATA_TIMEOUT_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Joining:
    """The coordinator, number of processes and index of this process; `coordinator` None uses a TPU pod's metadata.

    All processes must join within `start_timeout_s`; one without heartbeat for `lost_after_s` is lost.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    start_timeout_s: int = START_TIMEOUT_S
    lost_after_s: int = LOST_AFTER_S

    def unmet(self) -> str:
        """Return the message for hosts that did not join."""
        at = self.coordinator
        where = f"{self.processes} processes met at {at}" if at else "workers of the pod met"
        return f"not all {where} within {self.start_timeout_s} s (--start-timeout); start the same command on all hosts"


def find(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    start_timeout_s: int | None = None,
    lost_after_s: int | None = None,
) -> Joining | None:
    """Return how to join the other hosts, from flags or the environment variable of each; None for a single process.

    Raises SettingError if they do not fit together.
    """
    coordinator = coordinator or os.environ.get("DAR_JAX_COORDINATOR")
    processes = _number("--processes", "DAR_JAX_PROCESSES", processes, at_least=1)
    process = _number("--process", "DAR_JAX_PROCESS", process, at_least=0)
    start = _number("--start-timeout", "DAR_JAX_START_TIMEOUT", start_timeout_s, at_least=1) or START_TIMEOUT_S
    lost = _number("--lost-after", "DAR_JAX_LOST_AFTER", lost_after_s, at_least=4) or LOST_AFTER_S
    times = Joining(start_timeout_s=start, lost_after_s=lost)
    if coordinator is None and processes is None and process is None:
        return times if tpu_processes(os.environ) > 1 else None
    if coordinator is None or processes is None or process is None:
        raise SettingError(
            "--coordinator, --processes, --process: give all three on every host (or DAR_JAX_COORDINATOR,"
            " DAR_JAX_PROCESSES, DAR_JAX_PROCESS), or none for a process alone"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise SettingError(f"--coordinator {coordinator}: expected HOST:PORT, an address of the first process's host")
    if process >= processes:
        raise SettingError(f"--process {process}: expected 0 to {processes - 1}, as there are {processes}")
    if processes == 1:
        return None
    return replace(times, coordinator=coordinator, processes=processes, process=process)


def tpu_processes(environment: Mapping[str, str], pci: Path = Path("/sys/bus/pci/devices")) -> int:
    """Return the number of processes of this machine's TPU pod; 1 without a TPU, or with a single-host one.

    GKE sets it in the environment, a Cloud TPU VM has it in its metadata server, which is queried only if there is a
    Google device.
    """
    if "tpu" not in (environment.get("JAX_PLATFORMS") or "tpu") or not _has_google_device(pci):
        return 1
    slices = int(environment.get("MEGASCALE_NUM_SLICES") or 1)
    listed = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    if listed is None and "TPU_SKIP_MDS_QUERY" not in environment:
        listed = _metadata(environment.get("GCE_METADATA_IP", "metadata.google.internal"))
    return slices * len((listed or "").split(","))


def _has_google_device(pci: Path) -> bool:
    # TPUs, but also the network cards of Google's machines.
    return any(vendor.read_text().strip() == _GOOGLE for vendor in pci.glob("*/vendor"))


def _metadata(server: str) -> str | None:
    request = urllib.request.Request(_METADATA.format(server), headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=_METADATA_TIMEOUT_S) as answer:
            return str(answer.read().decode())
    except OSError:  # a TPU outside Google's cloud, or in a container: a single process
        return None


def _number(flag: str, variable: str, given: int | None, at_least: int) -> int | None:
    said = os.environ.get(variable) if given is None else str(given)
    if said is None:
        return None
    name = flag if given is not None else variable
    if not said.lstrip("-").isdigit() or int(said) < at_least:
        raise SettingError(f"{name} {said}: expected a whole number of {at_least} or more")
    return int(said)
