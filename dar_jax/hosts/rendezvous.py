"""All-gathers of small host values through jax's coordination service. No device is used, so that a gather stalls no
program and a host that waits for its judge can still answer.

Every host makes the same calls in the same order, each named. A host that fails posts its error in place of its value,
and the call raises on every host. Host 0 reads each host's post and publishes all of them under one key; the gets block
in the service, so nothing polls.
"""

import contextlib
import functools
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar

from pydantic import TypeAdapter

from dar_jax.errors import BudgetSpent, DarError, HostLost, Interrupted, JudgeStopped, NotFinite, SettingError

T = TypeVar("T")

_ERRORS = {
    kind.exit_status: kind
    for kind in (DarError, SettingError, JudgeStopped, BudgetSpent, Interrupted, HostLost, NotFinite)
}
# A get starts with a short timeout, since Python runs no signal handler meanwhile. A value that takes longer to arrive
# would never do so, so the timeout doubles with each attempt.
_GET_MS, _LONGEST_GET_MS = 500, 64_000


class Store(Protocol):
    """The part of jax's distributed client that is used. It has no public name; Orbax uses it too."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        """Write a value. Raises RuntimeError if the key exists, unless it may be overwritten."""

    def blocking_key_value_get(self, key: str, timeout_in_ms: int) -> str:
        """Return the value of a key once it has one. Raises RuntimeError (DEADLINE_EXCEEDED) after the timeout."""

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        """Return the keys below `key` with their values."""

    def key_value_delete(self, key: str) -> None:
        """Remove a value."""


class Rendezvous:
    """The hosts of one run, seen from host `index`. Without a store there is one host, and every call is free."""

    def __init__(self, store: Store | None = None, index: int = 0, count: int = 1) -> None:
        self.index, self.count = index, count
        self._store, self._round, self._thread = store, 0, threading.get_ident()
        self.shared: BaseException | None = None  # the error that every host raises
        self.names = [f"host {number}" for number in range(count)]
        named = self.gather("names", socket.gethostname(), str)
        self.names = [f"host {number} ({name})" for number, name in enumerate(named)]

    def gather(self, what: str, value: T, kind: type[T]) -> list[T]:
        """Return every host's value, in the order of the hosts. Values are sent as JSON and validated as `kind`.

        Raises the error that another host posted in place of its value.
        """
        if self._store is None:
            return [value]
        adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]
        posts = self._exchange(self._store, {"what": what, "value": adapter.dump_python(value, mode="json")})
        return [adapter.validate_python(post["value"]) for post in posts]

    def collect(self, what: str, value: T, kind: type[T]) -> list[T]:
        """Return every host's value on host 0 and [] elsewhere: for large values that only host 0 needs."""
        store = self._store
        if store is None:
            return [value]
        adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]
        key = f"dar_jax_collect/{self._round}/{{}}"
        with _reaching_host_0():
            store.key_value_set(key.format(self.index), json.dumps(adapter.dump_python(value, mode="json")))
        self.gather(what, None, type(None))
        if self.index:
            return []
        with _reaching_host_0():
            found = [json.loads(_get(store, key.format(host))) for host in range(self.count)]
            for host in range(self.count):
                store.key_value_delete(key.format(host))
        return [adapter.validate_python(each) for each in found]

    def agree(self, facts: Mapping[str, str]) -> None:
        """Raise SettingError on every host if a fact on one host differs from host 0's."""
        if self._store is None:
            return
        all_facts = self.gather("facts", dict(facts), dict[str, str])
        found = [_difference(all_facts[0], other, self.names[0], self.names[i]) for i, other in enumerate(all_facts)]
        if differing := list(filter(None, found)):
            self.shared = SettingError(f"{'; '.join(differing)}; give every host the same settings, packages and files")
            raise self.shared

    @contextlib.contextmanager
    def together(self, what: str) -> Iterator[None]:
        """Run the block on every host, with a barrier at its end; a DarError on one host is raised on all."""
        try:
            yield
        except DarError as error:
            if self._store is not None:
                self._fail(self._store, what, error)
            raise
        self.gather(what, None, type(None))

    def _fail(self, store: Store, what: str, error: DarError) -> None:
        # Without waiting: the others receive it at their next call, whatever that is and whenever it comes.
        post = json.dumps({"what": what, "error": [error.exit_status, str(error)]})
        with _reaching_host_0():
            store.key_value_set(f"dar_jax/{self._round}/{self.index or 'all'}", post if self.index else f"[{post}]")
        self._round += 1
        self.shared = error

    def _exchange(self, store: Store, post: dict[str, Any]) -> list[dict[str, Any]]:
        if threading.get_ident() != self._thread:
            raise DarError("hosts can only exchange values in the run's own thread: another has an order of its own")
        key = f"dar_jax/{self._round}/{{}}"
        with _reaching_host_0():
            store.key_value_set(key.format(self.index), json.dumps(post))
            if self.index == 0:
                posts = f"[{','.join(_get(store, key.format(host)) for host in range(self.count))}]"
                store.key_value_set(key.format("all"), posts)
                if self._round:  # every host has read the last round: it posted in this one
                    store.key_value_delete(f"dar_jax/{self._round - 1}/all")
            else:
                posts = _get(store, key.format("all"))
            store.key_value_delete(key.format(self.index))
        self._round += 1
        return self._checked(json.loads(posts), str(post["what"]))

    def _checked(self, posts: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
        for host, post in enumerate(posts):
            if "error" in post:
                status, message = post["error"]
                self.shared = _ERRORS[status](f"{self.names[host]}: {message}")
                raise self.shared
        if elsewhere := [f"host {host}: {post['what']!r}" for host, post in enumerate(posts) if post["what"] != what]:
            raise DarError(f"the hosts are at different calls: this one is at {what!r}, {', '.join(elsewhere)}")
        return posts


def _get(store: Store, key: str) -> str:
    """Return the value of a key once it has one; the heartbeat ends a process that would wait for a lost host."""
    timeout_ms = _GET_MS
    while True:
        try:
            return store.blocking_key_value_get(key, timeout_ms)
        except RuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
        timeout_ms = min(2 * timeout_ms, _LONGEST_GET_MS)


@contextlib.contextmanager
def _reaching_host_0() -> Iterator[None]:
    """Raise HostLost in place of the client's errors."""
    try:
        yield
    except RuntimeError as error:
        raise HostLost(f"host 0, which coordinates, does not answer: {_first_line(error)}") from None


def _difference(first: Mapping[str, str], other: Mapping[str, str], first_name: str, name: str) -> str | None:
    keys = [key for key in sorted({*first, *other}) if first.get(key) != other.get(key)]
    if not keys:
        return None
    key, more = keys[0], f" (and {len(keys) - 1} more)" * (len(keys) > 1)
    return f"{key} is {other.get(key, 'absent')} on {name}, {first.get(key, 'absent')} on {first_name}{more}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@functools.lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
