"""Which batches are under way, in a small file beside the ledger: a new start waits for them and does not pay twice.

A batch's mark is written before the batch is made, its id after: one made by a process that was killed in between is
found again by its mark.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from dar_jax.errors import SettingError


@dataclass
class OpenBatch:
    """A batch: our mark, the server's id (None: perhaps never made), the keys of its questions."""

    mark: str
    keys: list[str]
    id: str | None = None


@dataclass
class BatchState:
    """The batches that are not yet read, of which server."""

    address: str
    batches: list[OpenBatch] = field(default_factory=list)


_STATE = TypeAdapter(BatchState)


def place_of(ledger: Path) -> Path:
    """Return the path of the state of a ledger's batches."""
    return ledger.with_name(f"{ledger.name}.batches.json")


def read_state(place: Path, address: str) -> BatchState:
    """Read the state, empty where there is none. Raises SettingError where it is another server's, or unreadable."""
    if not place.exists():
        return BatchState(address)
    try:
        state = _STATE.validate_json(place.read_bytes())
    except (OSError, ValidationError):
        raise SettingError(
            f"{place}: it cannot be read, and says which batches are under way; restore it, or give them up by removing"
            " it"
        ) from None
    if state.address != address:
        raise SettingError(
            f"judge.base_url: {place} has batches under way at {state.address}, not at {address}; set it back, or give"
            " them up by removing that file"
        )
    return state


def write_state(place: Path, state: BatchState) -> None:
    """Write the state, safe on disk at the return; one without batches is no file."""
    if not state.batches:
        place.unlink(missing_ok=True)
        return
    scratch = place.with_name(f".{place.name}")
    with scratch.open("wb") as file:
        file.write(_STATE.dump_json(state))
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(place)
