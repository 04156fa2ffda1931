"""Whether the other hosts live. A host that waits for one that is gone would wait for ever: jax ends nothing by itself
while a program runs, and says no name when it does.

Every host writes a sign of life into the coordinator's store, and looks for those of the others, in a thread of its
own: the run's thread may be deep in a collective that will never end. Whoever finds a host gone says so in place of
its sign, so that all name the same one, and ends its process. A second thread waits for no store: a coordinator that
is stopped, or out of reach, leaves whoever asks it without an answer.
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

# How long this host may be behind one that left with an error, on the same way out.
GRACE_S = 10.0
_LEAVING_EVERY_S = 0.05
_JOIN_S = 5.0
_SIGNS = "dar_jax_signs/"


class Watch:
    """A thread that shows that this host lives and ends the process, with HostLost's status, when another does not.

    A host is gone that gave no sign for `lost_after_s`, or left with an error that this one does not meet.
    """

    def __init__(self, store: Store, index: int, names: Sequence[str], lost_after_s: float) -> None:
        self._store, self._index, self._names, self._lost_after_s = store, index, names, lost_after_s
        self._every_s = min(1.0, lost_after_s / 8)
        self._seen: dict[int, tuple[str, float]] = {}
        self._sign: dict[str, Any] = {"beat": 0}
        self._over, self._woken, self._all_gone = threading.Event(), threading.Event(), threading.Event()
        self._all_left = False
        self._answers = 0  # of the store, so far
        self._threads = [threading.Thread(target=each, name="hosts", daemon=True) for each in (self._run, self._mind)]
        for thread in self._threads:
            thread.start()

    def leave(self, error: str, wait_s: float) -> bool:
        """Tell the others that this host leaves; wait for them to leave too, and say whether all did.

        `error` is what happened to this host alone, and ends the others; empty where they leave for the same reason.
        """
        self._sign = {"left": error}
        self._woken.set()
        self._all_gone.wait(wait_s)
        return self._all_left

    def close(self) -> None:
        """End the threads. One that waits for a store that does not answer is left behind."""
        self._over.set()
        self._woken.set()
        for thread in self._threads:
            thread.join(_JOIN_S)

    @property
    def _leaving(self) -> bool:
        return "left" in self._sign

    def _run(self) -> None:
        # Everyone is there when the watch begins.
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
        # In wake-ups, not by the clock: this process may itself have been stopped for a while.
        waited, answers = 0, 0
        while not self._over.wait(self._every_s):
            waited, answers = (waited + 1 if self._answers == answers else 0), self._answers
            if waited * self._every_s > self._lost_after_s:
                self._end(0, f"it coordinates, and gave no answer for {self._lost_after_s:g} s")

    def _look(self) -> None:
        # Once: `leave` may change it meanwhile, and whoever is told that all are gone must have said that it goes.
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
            # The store lies with host 0: the others must have read who is gone before it goes too.
            time.sleep(4 * self._every_s if self._index == 0 else 0.0)
        os._exit(HostLost.exit_status)
