"""Join and leave the distributed run; in between, one rendezvous for the whole process."""

import contextlib
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from dar_jax.errors import BudgetSpent, Interrupted, JudgeStopped, NotFinite, SettingError
from dar_jax.hosts import supervisor
from dar_jax.hosts.heartbeat import GRACE_S, Watch
from dar_jax.hosts.joining import Joining
from dar_jax.hosts.rendezvous import Rendezvous, Store
from dar_jax.terminal.visible import visible

T = TypeVar("T")

_COORDINATOR_GONE = "host 0 ({}), which coordinates, is gone. The run stops; start it on every host again with --resume"

_rendezvous = Rendezvous()


@contextlib.contextmanager
def joined(joining: Joining | None) -> Iterator[None]:
    """Join the distributed run for the duration of the block (no-op with None); call it before any jax computation.

    Raises SettingError if the coordinator's port is taken. If other hosts do not join, or the coordinator is lost, jax
    ends the process and `supervisor.mind` reports why.
    """
    global _rendezvous
    if joining is None:
        yield
        return
    store, index, count = _connect(joining)
    _rendezvous = Rendezvous(store, index, count)
    watch = Watch(store, index, _rendezvous.names, joining.lost_after_s)
    try:
        yield
    except BaseException as error:
        if _of_the_runtime(error):
            _wait_for_the_watch(error, joining.lost_after_s)
        all_left = watch.leave("" if _shared(error) else _line(error), 2 * GRACE_S)
        raise
    else:
        all_left = watch.leave("", joining.lost_after_s)
    finally:
        watch.close()
        _rendezvous = Rendezvous()
        if all_left:
            _disconnect()


def count() -> int:
    """Return the number of hosts."""
    return _rendezvous.count


def index() -> int:
    """Return the index of this host."""
    return _rendezvous.index


def is_first() -> bool:
    """Return whether this is host 0, which writes and prints."""
    return _rendezvous.index == 0


def names() -> list[str]:
    """Return the names of the hosts for messages."""
    return _rendezvous.names


def gather(what: str, value: T, kind: type[T]) -> list[T]:
    """Return every host's value, in the order of the hosts (see `Rendezvous.gather`)."""
    return _rendezvous.gather(what, value, kind)


def union(what: str, part: Mapping[int, T], kind: type[T]) -> list[T]:
    """Return the values of all hosts ordered by number; each number belongs to one host."""
    return _in_order(_rendezvous.gather(what, dict(part), dict[int, kind]))  # type: ignore[valid-type]


def union_at_first(what: str, part: Mapping[int, T], kind: type[T]) -> list[T]:
    """Return `union` on host 0, and [] on the others, to which large values are not sent."""
    return _in_order(_rendezvous.collect(what, dict(part), dict[int, kind]))  # type: ignore[valid-type]


def agree(facts: Mapping[str, str]) -> None:
    """Raise SettingError on every host if a fact on one host differs from host 0's."""
    _rendezvous.agree(facts)


def together(what: str) -> contextlib.AbstractContextManager[None]:
    """Run the block on every host, with a barrier at its end; a DarError on one host is raised on all."""
    return _rendezvous.together(what)


def _connect(joining: Joining) -> tuple[Store, int, int]:
    import jax
    from jax._src import distributed

    # Its handler would take SIGTERM from the run, which handles preemption itself.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    place: dict[str, Any] = {}
    if joining.coordinator:
        place = {
            "coordinator_address": joining.coordinator,
            "num_processes": joining.processes,
            "process_id": joining.process,
            "cluster_detection_method": "deactivate",
        }
        if joining.process == 0:
            _check_port(joining.coordinator)
    supervisor.tell(joining.unmet())
    jax.distributed.initialize(
        **place,
        initialization_timeout=joining.start_timeout_s,
        # Our own timeout comes first, as jax names no host.
        heartbeat_timeout_seconds=3 * joining.lost_after_s,
        shutdown_timeout_seconds=joining.lost_after_s,
    )
    state = distributed.global_state
    assert state.client is not None
    assert state.coordinator_address is not None
    gone = _COORDINATOR_GONE.format(state.coordinator_address) if state.process_id else ""
    supervisor.tell(gone, silent=state.coordinator_address)
    return state.client, state.process_id, state.num_processes


def _check_port(coordinator: str) -> None:
    """Raise SettingError if the port is taken, which would crash jax's coordinator."""
    port = int(coordinator.rpartition(":")[2])
    with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise SettingError(
                f"--coordinator {coordinator}: cannot listen on port {port} here ({error.strerror}); choose another,"
                " on every host"
            ) from None


def _disconnect() -> None:
    import jax

    jax.distributed.shutdown()


def _in_order(parts: list[dict[int, T]]) -> list[T]:
    whole = {number: value for part in parts for number, value in part.items()}
    return [whole[number] for number in sorted(whole)]


def _shared(error: BaseException) -> bool:
    """Return whether the other hosts raise it too."""
    return isinstance(error, JudgeStopped | BudgetSpent | Interrupted | NotFinite) or error is _rendezvous.shared


def _of_the_runtime(error: BaseException | None) -> bool:
    from jax.errors import JaxRuntimeError

    return error is not None and (isinstance(error, JaxRuntimeError) or _of_the_runtime(error.__cause__))


def _wait_for_the_watch(error: BaseException, lost_after_s: float) -> None:
    """Wait for the heartbeats to find the lost host: a failed collective does not name it."""
    told = visible(_line(error))
    print(f"dar-jax: {told}; looking for {lost_after_s} s whether a host is gone", file=sys.stderr, flush=True)
    time.sleep(lost_after_s + 2.0)


def _line(error: BaseException) -> str:
    said = str(error).splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
