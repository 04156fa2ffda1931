"""Read items of a checkpoint and verify their checksums; nothing in its folder is written."""

import contextlib
import gc
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from dar_jax import hosts
from dar_jax.checkpoints.checksums import checksums, digest
from dar_jax.checkpoints.orbax_log import drop_leftovers
from dar_jax.errors import DarError, SettingError

RECORD = "progress"
# Statuses of a store that say nothing about what it holds.
_NOT_DAMAGE = (
    "ABORTED",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
)
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class DamagedCheckpoint(SettingError):
    """A checkpoint is damaged: an item is missing, truncated or changed."""


def absolute(directory: Path | str) -> Path | str:
    """Return the directory as Orbax expects it: an absolute path or a `gs://` URL."""
    return directory if isinstance(directory, str) else directory.absolute()


def context(*, alone: bool = False) -> ocp.Context:
    """Return the Orbax context of saving and loading, with the record as a JSON file. With `alone` this process does
    not wait for the others.
    """
    made = ocp.Context()
    made.checkpointables.registry = ocp.handlers.local_registry()
    made.checkpointables.registry.add(ocp.handlers.JsonHandler, checkpointable_name=RECORD)
    if alone:
        made.multiprocessing.primary_host = jax.process_index()
        made.multiprocessing.active_processes = {jax.process_index()}
    return made


def run_of(directory: Path | str) -> str:
    """Return the run folder of a directory of checkpoints, as a user writes it."""
    return str(directory).rpartition("/")[0] if isinstance(directory, str) else str(directory.parent)


def saved_numbers(directory: Path | str) -> list[int]:
    """List the numbers of the complete checkpoints, oldest first."""
    return sorted(each.step for each in ocp.path.step.standard_name_format().find_all(absolute(directory)))


def load_params(directory: Path | str, number: int, abstract: Any) -> Any:
    """Load only the parameters, with the shardings of `abstract`.

    Raises DamagedCheckpoint if they are damaged.
    """
    record = load_record(directory, number)
    return load_items(directory, number, {"params": abstract}, record)["params"]


def load_record(directory: Path | str, number: int) -> dict[str, Any]:
    """Load the record of a checkpoint. Raises DamagedCheckpoint, on all hosts if on one."""
    record = dict(_read(directory, number, {RECORD: None})[RECORD] or {})
    if record.pop("digest", None) != digest(record):
        raise _damaged(directory, number, RECORD)
    return record


def load_items(
    directory: Path | str, number: int, abstract: Mapping[str, Any], record: Mapping[str, Any]
) -> dict[str, Any]:
    """Load trees of arrays by name with the shardings of `abstract`, and verify the checksums of the record.

    Raises DamagedCheckpoint, on all hosts if on one.
    """
    found: dict[str, Any] = {}
    for name, tree in abstract.items():
        found |= _read(directory, number, {name: tree})
    wanted, sums = record["checksums"], checksums(found)
    if changed := [name for name in found if wanted.get(name) != sums[name]]:
        raise _damaged(directory, number, ", ".join(changed))
    return found


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with the digest that `load_record` compares."""
    return {**record, "digest": digest(dict(record))}


def _read(directory: Path | str, number: int, abstract: dict[str, Any]) -> dict[str, Any]:
    """Load items. An error on one host is raised on all, which would wait for it otherwise."""
    name, found, fault = next(iter(abstract)), {}, ""
    drop_leftovers()
    with _quiet():
        try:
            with context(alone=True):
                found = ocp.load_checkpointables(f"{absolute(directory)}/{number}", abstract)
        except jax.errors.JaxRuntimeError:
            raise  # of the devices, as where memory is short
        except Exception as error:  # Orbax and its stores raise what they raise
            fault = _reason(error) or _unreachable(directory) or "damaged"
        if fault:
            gc.collect()
    faults = [each for each in hosts.gather("checkpoint is read", fault, str) if each]
    if "damaged" in faults:
        raise _damaged(directory, number, name)
    if faults:
        raise DarError(f"checkpoints/{number} of {run_of(directory)} cannot be read now ({name}): {faults[0]}")
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the reads that Orbax abandons after another one failed."""
    hook, disabled = sys.unraisablehook, logging.root.manager.disable
    sys.unraisablehook = lambda _: None
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        sys.unraisablehook = hook
        logging.disable(disabled)


def _damaged(directory: Path | str, number: int, what: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(f"checkpoints/{number} of {run_of(directory)} is damaged ({what})")


def _reason(error: BaseException) -> str:
    """Return why a read failed if the checkpoint itself may be fine, else None."""
    for each in _chain(error):
        if isinstance(each, OSError) and not isinstance(each, _ABSENT):
            return first_line(each)
        if any(status in str(each) for status in _NOT_DAMAGE):
            return first_line(each)
    return ""


def _unreachable(directory: Path | str) -> str:
    """Return why a bucket cannot be listed, else None: some drivers report any failure as an absent object."""
    if not isinstance(directory, str):
        return ""
    try:
        list(epath.Path(directory).iterdir())
    except Exception as error:  # drivers raise what they raise
        return first_line(error)
    return ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
