"""Keys of a folder in a bucket, through TensorStore, which is also how a run reads and writes it."""

from pathlib import Path

import tensorstore

from dar_jax.errors import DarError

# TensorStore itself waits for ever where a bucket or the credentials for it do not answer.
_PATIENCE_S = 120


class Folder:
    """A folder by its URL, gs://BUCKET/FOLDER, or by a path that all hosts share; DarError where it does not answer."""

    def __init__(self, where: str) -> None:
        url = where if "://" in where else Path(where).absolute().as_uri()
        self._url = url.rstrip("/") + "/"

    def read(self, key: str) -> bytes | None:
        """Return what lies under a key, None for nothing."""
        found = self._wait(lambda store: store.read(key))
        return found.value if found.state == "value" else None

    def write(self, key: str, content: bytes) -> None:
        """Put content under a key."""
        self._wait(lambda store: store.write(key, content))

    def delete(self, key: str) -> None:
        """Take a key away."""
        self._wait(lambda store: store.write(key, None))

    def _wait(self, operation):  # type: ignore[no-untyped-def]
        try:
            store = tensorstore.KvStore.open(self._url).result(_PATIENCE_S)
            return operation(store).result(_PATIENCE_S)
        except (ValueError, TimeoutError, OSError) as error:
            cause = str(error).splitlines()[0] if str(error) else f"no answer in {_PATIENCE_S} s"
            raise DarError(
                f"{self._url}: {cause}; the bucket must exist, and the host's service account needs"
                " roles/storage.objectAdmin on it"
            ) from None
