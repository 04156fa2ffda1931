"""Objects under a URL, written whole, in the background and conditionally; none is appended to or renamed.

They use TensorStore's key-value store with its `gcs` driver for `gs://` and its `file` driver for `file://`. A write
that succeeded is durable; transient failures are retried.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from dar_jax.errors import DarError, SettingError

_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Retries of transient failures, with delays that double up to a maximum, and a total timeout, as a network may
    never answer.
    """

    retries: int
    delay_s: float
    longest_delay_s: float
    wait_s: float


# TensorStore's own retries (https://google.github.io/tensorstore/kvstore/gcs): a quarter of an hour.
PATIENT = Patience(retries=32, delay_s=1, longest_delay_s=32, wait_s=1200)
# When a user waits for the error.
HASTY = Patience(retries=3, delay_s=1, longest_delay_s=4, wait_s=60)


class Objects:
    """The objects under one URL. Failures are DarErrors with the object, the reason and the way out."""

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        import tensorstore

        patience = patience or PATIENT
        self.url, self.wait_s = url.rstrip("/"), patience.wait_s
        self._range = tensorstore.KvStore.KeyRange
        try:
            self._store = tensorstore.KvStore.open({**_place(self.url), "context": _context(patience)}).result()
        except ValueError as fault:
            raise SettingError(f"{url}: {_one_line(fault)}; expected {_EXPECTED}") from None
        # The generation of an absent object in conditions, in every driver.
        self._absent = tensorstore.KvStore.open({"driver": "memory"}).result().read("").result().stamp.generation

    def names(self, start: str = "", end: str = "") -> list[str]:
        """Return the names of objects with start <= name < end, in order; "" is no end."""
        found = self.finished(self._store.list(self._range(start, end)))
        return sorted(name.decode() for name in found)

    def under(self, folder: str) -> list[str]:
        """Return the names of the objects of a folder, in order."""
        return self.names(f"{folder}/", f"{folder}0")  # 0 follows the slash

    def read(self, name: str) -> tuple[bytes | None, bytes]:
        """Return an object (None if absent) and its generation."""
        found = self.finished(self._store.read(name), name)
        return (found.value if found.state == "value" else None), found.stamp.generation

    def read_each(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield objects in this order, reading some hundreds at once; absent ones are skipped."""
        for first in range(0, len(names), _AT_ONCE):
            under_way = [(name, self._store.read(name)) for name in names[first : first + _AT_ONCE]]
            for name, future in under_way:
                found = self.finished(future, name)
                if found.state == "value":
                    yield name, found.value

    def create(self, name: str, content: bytes) -> "Writing":
        """Start writing an object that must not exist yet."""
        return self.replace(name, content, self._absent)

    def replace(self, name: str, content: bytes, generation: bytes) -> "Writing":
        """Start replacing exactly this generation of an object."""
        return Writing(self, name, content, self._store.write(name, content, if_equal=generation))

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; absent ones are ignored."""
        under_way = [(name, self._store.write(name, None)) for name in names]
        for name, future in under_way:
            self.finished(future, name)

    def finished(self, future: Any, name: str = "") -> Any:
        """Wait for an operation on an object. Raises DarError."""
        where = f"{self.url}/{name}".rstrip("/")
        try:
            return future.result(timeout=self.wait_s)
        except TimeoutError:
            raise DarError(f"{where}: no answer in {self.wait_s:g} s; {_NETWORK}") from None
        except ValueError as fault:
            found = [way_out for sign, way_out in _WAYS_OUT.items() if sign in str(fault)]
            way_out = found[0] if found else "choose a place that can be read and written"
            raise DarError(f"{where}: {_one_line(fault)}; {way_out}") from None


class Writing:
    """A write in progress."""

    def __init__(self, objects: Objects, name: str, content: bytes, future: Any) -> None:
        self._objects, self._name, self._content, self._future = objects, name, content, future

    def done(self) -> bool:
        """Whether `finish` returns at once."""
        return bool(self._future.done())

    def finish(self) -> bytes:
        """Wait until the object is durable; return its generation. Raises DarError if the write failed."""
        stamp = self._objects.finished(self._future, self._name)
        if stamp.generation:
            return stamp.generation
        # A write whose reply was lost is retried and finds its own object.
        there, generation = self._objects.read(self._name)
        if there == self._content:
            return generation
        raise DarError(
            f"{self._objects.url}/{self._name}: another run has written it meanwhile; only one may go on in a run"
            " folder: find it, and stop this run for good or resume it with --resume"
        )


def local_path(url: str) -> str | None:
    """Return the path of a `file://` URL, None for any other URL."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "file" else None


_EXPECTED = "a folder, gs://BUCKET/PATH or file:///PATH"


def _place(url: str) -> dict[str, str]:
    scheme, _, rest = url.partition("://")
    bucket, _, path = rest.partition("/")
    if scheme == "gs" and bucket and path:
        return {"driver": "gcs", "bucket": bucket, "path": f"{path}/"}
    if scheme == "file" and not bucket and path:
        return {"driver": "file", "path": f"/{path}/"}
    raise SettingError(f"{url}: no place for a run; expected {_EXPECTED}")


def _context(patience: Patience) -> dict[str, object]:
    delays = {"initial_delay": f"{patience.delay_s}s", "max_delay": f"{patience.longest_delay_s}s"}
    return {"gcs_request_retries": {"max_retries": patience.retries, **delays}}


_NETWORK = "check the network, then try again (resume a run with --resume)"
_CREDENTIALS = (
    "no credentials are at hand: run gcloud auth application-default login, name a key file in"
    " GOOGLE_APPLICATION_CREDENTIALS, or give the machine a service account"
)
# By what TensorStore says, and appends to the store's own words.
_WAYS_OUT = {
    "credentials file": _CREDENTIALS,
    "http_response_code='401'": _CREDENTIALS,
    "http_response_code='403'": "the account may not do that: give it roles/storage.objectUser on the bucket, or use"
    " another bucket",
    "http_response_code='404'": "there is no such bucket: make it with gcloud storage buckets create, or name another",
    "retry attempts failed": _NETWORK,
}


def _one_line(fault: object) -> str:
    text = re.sub(r" \[\w+=.*", "", str(fault), flags=re.DOTALL)
    return " ".join(re.sub(r"^[A-Z_]+: ", "", text).split())
