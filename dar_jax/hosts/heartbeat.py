"""Heartbeats between hosts. A host would wait for a lost one forever: jax ends nothing while a program runs, and does
not name the host.

Each host writes a heartbeat to the coordinator's store and checks those of the others in a thread, since the run's
thread may be in a collective that never ends. A host that finds another one lost publishes that in place of its
heartbeat, so that all report the same host, and ends its process. A second thread does not use the store: a coordinator
that is stopped or unreachable leaves requests unanswered.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from dar_jax.errors import HostLost
from dar_jax.hosts.rendezvous import Store
from dar_jax.terminal.visible import visible

# How much later than another host this one may leave with the same error.
GRACE_S = 10.0
_LEAVING_EVERY_S = 0.05
_JOIN_S = 5.0
_SIGNS = "dar_jax_signs/"


class Watch:
    """Threads that send heartbeats, and end the process with HostLost's status when another host is lost.

    A host is lost if it sent no heartbeat for `lost_after_s`, or left with an error that this host does not have.
    """

    def __init__(self, store: Store, index: int, names: Sequence[str], lost_after_s: float) -> None:
        self._store, self._index, self._names, self._lost_after_s = store, index, names, lost_after_s
        self._every_s = min(1.0, lost_after_s / 8)
        self._seen: dict[int, tuple[str, float]] = {}
        self._sign: dict[str, Any] = {"beat": 0}
        self._over, self._woken, self._all_gone = threading.Event(), threading.Event(), threading.Event()
        self._all_left = False
        self._answers = 0  # replies of the store so far
        self._threads = [threading.Thread(target=each, name="hosts", daemon=True) for each in (self._run, self._mind)]
        for thread in self._threads:
            thread.start()

    def leave(self, error: str, wait_s: float) -> bool:
        """Announce that this host leaves; wait for the others to leave, and return whether all did.

        `error` is an error of this host alone, which ends the others; "" if all leave for the same reason.
        """
        self._sign = {"left": error}
        self._woken.set()
        self._all_gone.wait(wait_s)
        return self._all_left

    def close(self) -> None:
        """End the threads; one that waits for an unresponsive store is abandoned."""
        self._over.set()
        self._woken.set()
        for thread in self._threads:
            thread.join(_JOIN_S)

    @property
    def _leaving(self) -> bool:
        return "left" in self._sign

    def _run(self) -> None:
        # All hosts have joined when the heartbeats start.
        self._seen = {host: ("", time.monotonic()) for host in range(len(self._names)) if host != self._index}
        while not self._over.is_set():
            try:
                self._look()
                self._answers += 1
            except RuntimeError as error:
                self._end(0, f"it coordinates, and does not answer ({str(error).splitlines()[0]})")
            self._woken.wait(self._every_s)
            if self._leaving:
                time.sleep(_LEAVING_EVERY_S)

    def _mind(self) -> None:
        # Counted in wake-ups, not by the clock: this process may have been stopped itself.
        waited, answers = 0, 0
        while not self._over.wait(self._every_s):
            waited, answers = (waited + 1 if self._answers == answers else 0), self._answers
            if waited * self._every_s > self._lost_after_s:
                self._end(0, f"it coordinates, and gave no answer for {self._lost_after_s:g} s")

    def _look(self) -> None:
        # Read once: `leave` may change it meanwhile, and a host must announce its own leaving before it returns.
        own = self._sign
        self._show(own)
        signs = {int(key.rsplit("/", 1)[1]): sign for key, sign in self._store.key_value_dir_get(_SIGNS)}
        said = {host: json.loads(signs.get(host, "{}")) for host in self._seen}
        if "left" in own:
            self._all_left = all("left" in each for each in said.values())
            if all("left" in each or "lost" in each for each in said.values()):
                self._all_gone.set()
            return
        now = time.monotonic()
        for host, (last, since) in self._seen.items():
            sign = signs.get(host, "")
            self._seen[host] = (sign, since if sign == last else now)
            self._judge(host, said[host], now - self._seen[host][1])

    def _judge(self, host: int, said: dict[str, Any], still_s: float) -> None:
        if "lost" in said:
            self._end(*said["lost"])
        elif "left" not in said and still_s > self._lost_after_s:
            self._end(host, f"no sign of life for {self._lost_after_s:g} s")
        elif said.get("left") and still_s > GRACE_S:
            self._end(host, f"it left: {said['left']}")

    def _show(self, sign: dict[str, Any]) -> None:
        if "beat" in sign:
            sign["beat"] += 1
        self._store.key_value_set(f"{_SIGNS}{self._index}", json.dumps(sign), True)

    def _end(self, host: int, how: str) -> None:
        if self._leaving:
            return
        told = visible(f"{self._names[host]} is gone: {how}")
        print(
            f"dar-jax: {told}. The run stops; start it on every host again with --resume",
            file=sys.stderr,
            flush=True,
        )
        if host:
            self._show({"lost": [host, how]})
            # Host 0 has the store: the others must read which host is lost before it ends.
            time.sleep(4 * self._every_s if self._index == 0 else 0.0)
        os._exit(HostLost.exit_status)
