"""What the hosts of a run tell one another: small values, through jax's coordination service and by no device, so that
asking stalls no program and a host that waits for its judge can still answer.

Every host makes the same calls in the same order, each named. A host that cannot go on says so in place of its value,
and the call raises everywhere.
"""

import contextlib
import functools
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar

from pydantic import TypeAdapter

from dar_jax.errors import BudgetSpent, DarError, HostLost, Interrupted, JudgeStopped, NotFinite, SettingError

T = TypeVar("T")

_ERRORS = {
    kind.exit_status: kind
    for kind in (DarError, SettingError, JudgeStopped, BudgetSpent, Interrupted, HostLost, NotFinite)
}
# How often all hosts together look whether the others have answered.
_LOOKS_PER_S = 1000


class Store(Protocol):
    """The part of jax's distributed client that is used. It has no public name; Orbax takes it from the same place."""

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        """Write a value; RuntimeError where the key has one, unless it may be overwritten."""

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        """Return the keys below `key` with their values."""

    def key_value_delete(self, key: str) -> None:
        """Remove a value."""


class Meeting:
    """The hosts of one run, seen from host `index`. Without a store the host is alone, and every call is free."""

    def __init__(self, store: Store | None = None, index: int = 0, count: int = 1) -> None:
        self.index, self.count = index, count
        self._store, self._round, self._thread = store, 0, threading.get_ident()
        self.shared: BaseException | None = None  # the error that every host raises
        self.names = [f"host {number}" for number in range(count)]
        named = self.gather("names", socket.gethostname(), str)
        self.names = [f"host {number} ({name})" for number, name in enumerate(named)]

    def gather(self, what: str, value: T, kind: type[T]) -> list[T]:
        """Return every host's value, in the order of the hosts. It travels as JSON and comes back as a `kind`.

        Raises what another host raised in its place.
        """
        if self._store is None:
            return [value]
        adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]
        said = self._meet(self._store, {"what": what, "value": adapter.dump_python(value, mode="json")})
        return [adapter.validate_python(each["value"]) for each in said]

    def collect(self, what: str, value: T, kind: type[T]) -> list[T]:
        """Return every host's value to host 0, and nothing to the others: for what is large, and wanted there alone."""
        store = self._store
        if store is None:
            return [value]
        adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]
        place = f"dar_jax_collect/{self._round}/"
        store.key_value_set(f"{place}{self.index}", json.dumps(adapter.dump_python(value, mode="json")))
        self.gather(what, None, type(None))
        found = _in_order(store.key_value_dir_get(place)) if self.index == 0 else []
        self.gather(f"{what} read", None, type(None))
        store.key_value_delete(f"{place}{self.index}")
        return [adapter.validate_python(each) for each in found]

    def agree(self, facts: Mapping[str, str]) -> None:
        """Raise SettingError, on every host, where one has another value of a fact than host 0."""
        if self._store is None:
            return
        said = self.gather("facts", dict(facts), dict[str, str])
        found = [_difference(said[0], other, self.names[0], self.names[i]) for i, other in enumerate(said)]
        if differing := list(filter(None, found)):
            self.shared = SettingError(f"{'; '.join(differing)}; give every host the same settings, packages and files")
            raise self.shared

    @contextlib.contextmanager
    def together(self, what: str) -> Iterator[None]:
        """Wait at the end until every host has done what is inside; a DarError on one is raised on all."""
        try:
            yield
        except DarError as error:
            if self._store is not None:
                self._fail(self._store, what, error)
            raise
        self.gather(what, None, type(None))

    def _fail(self, store: Store, what: str, error: DarError) -> None:
        # Also where the others are within a call of their own: whatever they meet for next, they hear of it.
        said = json.dumps({"what": what, "error": [error.exit_status, str(error)]})
        store.key_value_set(f"dar_jax/{self._round}/{self.index}", said)
        self._round += 1
        self.shared = error

    def _meet(self, store: Store, post: dict[str, Any]) -> list[dict[str, Any]]:
        if threading.get_ident() != self._thread:
            raise DarError("hosts meet in the run's own thread alone: in another, their order would be left to chance")
        where = f"dar_jax/{self._round}/"
        try:
            store.key_value_set(f"{where}{self.index}", json.dumps(post))
            said = self._wait(store, where)
            if self._round:
                store.key_value_delete(f"dar_jax/{self._round - 1}/{self.index}")
        except RuntimeError as error:
            raise HostLost(f"host 0, which coordinates, does not answer: {_first_line(error)}") from None
        self._round += 1
        return self._checked(said, str(post["what"]))

    def _wait(self, store: Store, where: str) -> list[dict[str, Any]]:
        pause = 0.001
        while len(found := store.key_value_dir_get(where)) < self.count:
            time.sleep(pause)
            pause = min(2 * pause, self.count / _LOOKS_PER_S)
        return _in_order(found)

    def _checked(self, said: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
        for host, each in enumerate(said):
            if "error" in each:
                status, message = each["error"]
                self.shared = _ERRORS[status](f"{self.names[host]}: {message}")
                raise self.shared
        if elsewhere := [
            f"host {host} is at {each['what']!r}" for host, each in enumerate(said) if each["what"] != what
        ]:
            raise DarError(f"the hosts are not at the same place: here it is {what!r}, {', '.join(elsewhere)}")
        return said


def _in_order(found: list[tuple[str, str]]) -> list[Any]:
    by_host = {int(key.rsplit("/", 1)[1]): value for key, value in found}
    return [json.loads(by_host[host]) for host in sorted(by_host)]


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
