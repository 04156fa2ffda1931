"""The state of a run on disk: everything that determines its next number, saved by Orbax while training continues.

    params      float32 parameters
    optimizer   optimizer state and number of updates
    progress    step, update within the step, metrics of the step so far; checksums of the other items (JSON)
    batch       the weighed batch, if not all of its updates are made

Random keys and the data position are functions of (seed, step). A checkpoint's number is the number of optimizer
updates before it.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
from etils import epath
from orbax.checkpoint import v1 as ocp
from pydantic.dataclasses import dataclass

from dar_jax import hosts, parallel
from dar_jax.batches import Batch, Inputs
from dar_jax.checkpoints.checksums import checksums
from dar_jax.checkpoints.orbax_log import drop_tracebacks
from dar_jax.checkpoints.saved_items import (
    RECORD,
    absolute,
    context,
    first_line,
    load_items,
    load_record,
    run_of,
    sealed,
)
from dar_jax.errors import DarError
from dar_jax.runlog.disk import disk_fault
from dar_jax.settings.fields import STRICT, Count

# Keys of a record that are not part of the progress.
_OF_ARRAYS = ("batch", "checksums")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Checkpointing:
    """When to save: every `every_steps` steps and at the end, and with `within_step` after each update.

    The latest `keep` checkpoints stay on disk.
    """

    every_steps: Count = 50
    within_step: bool = False
    keep: Count = 3


class RunState:
    """The checkpoints of a run, in a folder or under `gs://`; used from the main thread only."""

    def __init__(self, directory: Path | str, keep: int) -> None:
        self.directory = directory
        drop_tracebacks()
        self._orbax = ocp.training.Checkpointer(
            absolute(directory),
            context=context(),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )
        self._under_way: tuple[int, Any] | None = None
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # If the run ends with an error, that error is reported.
        with contextlib.suppress(*((DarError,) if error else ())):
            self.close()

    def close(self) -> None:
        """Wait for the save in progress and release Orbax's threads. Raises DarError if it could not be written."""
        try:
            self.settle()
        finally:
            # Orbax raises the error of a failed save again.
            with contextlib.suppress(*((Exception,) if self._failed else ())):
                self._orbax.close()

    @property
    def numbers(self) -> list[int]:
        """The numbers of the complete checkpoints, oldest first."""
        return sorted(each.step for each in self._orbax.checkpoints)

    @property
    def latest(self) -> int | None:
        """The number of the newest complete checkpoint, or None."""
        return max(self.numbers, default=None)

    def save(self, number: int, trees: dict[str, Any], progress: dict[str, Any], batch: Batch | None) -> None:
        """Start saving; returns when the arrays are safe from donation. A number already saved stays.

        Raises DarError if the previous save could not be written.
        """
        self.settle()
        if number in self.numbers:
            return
        items: dict[str, Any] = dict(trees)
        record = dict(progress)
        if batch is not None:
            items["batch"] = arrays = _arrays(batch)
            record["batch"] = {name: [list(leaf.shape), str(leaf.dtype)] for name, leaf in arrays.items()}
        record["checksums"] = checksums(items)
        with self._writing(number):
            response = self._orbax.save_checkpointables_async(number, {**items, RECORD: sealed(record)})
        self._under_way = (number, response)

    def check(self) -> None:
        """Raise DarError if the save in progress has failed, without waiting for it."""
        if self._under_way and not _pending(self._under_way[1]):
            self.settle()

    def settle(self) -> None:
        """Wait for the save in progress and free its thread and descriptors. Raises DarError if it could not be
        written.
        """
        if self._under_way:
            (number, response), self._under_way = self._under_way, None
            with self._writing(number):
                response.result()

    def progress(self, number: int) -> dict[str, Any]:
        """Load the progress of a checkpoint. Raises DamagedCheckpoint."""
        return _progress(load_record(self.directory, number))

    def load(
        self, number: int, abstract: dict[str, Any], mesh: jax.sharding.Mesh
    ) -> tuple[dict[str, Any], dict[str, Any], Batch | None]:
        """Load (trees, progress, batch or None) with the shardings of `abstract`. Raises DamagedCheckpoint."""
        record = load_record(self.directory, number)
        wanted = dict(abstract)
        if shapes := record.get("batch"):
            arrays = {
                name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(kind)) for name, (shape, kind) in shapes.items()
            }
            wanted["batch"] = parallel.abstract_rows(arrays, mesh)
        trees = load_items(self.directory, number, wanted, record)
        saved = trees.pop("batch", None)
        return trees, _progress(record), None if saved is None else _batch(saved)

    def set_aside(self, numbers: Iterable[int]) -> list[str]:
        """Move checkpoints away, as the run will save under their numbers again; return their new paths. In a bucket
        they are deleted.
        """
        places = []
        with hosts.together("damaged checkpoints"):
            if hosts.is_first():
                places = [_set_aside(self.directory, number) for number in numbers]
        self._orbax.reload()
        return places

    @contextlib.contextmanager
    def _writing(self, number: int) -> Iterator[None]:
        try:
            yield
        except jax.errors.JaxRuntimeError:
            raise  # of the devices, or of a lost host
        except Exception as error:  # Orbax and its stores raise what they raise
            self._failed, run = True, run_of(self.directory)
            reason = disk_fault(error) or f"{first_line(error)}; make room there"
            raise DarError(
                f"checkpoints/{number} of {run} could not be written: {reason}, and resume with: dar-jax train"
                f" --resume {run}"
            ) from error


def _pending(response: Any) -> bool:
    try:
        response.result(0)
    except TimeoutError:
        return True
    except Exception:  # `settle` raises it
        return False
    return False


def _set_aside(directory: Path | str, number: int) -> str:
    damaged = epath.Path(absolute(directory)) / str(number)
    try:
        if isinstance(directory, str):
            damaged.rmtree()
            return "deleted"
        names = (f"damaged-{number}{f'-{again}' * (again > 0)}" for again in itertools.count())
        aside = next(damaged.with_name(name) for name in names if not damaged.with_name(name).exists())
        damaged.rename(aside)
    except OSError as error:
        raise DarError(f"{damaged} is damaged and cannot be moved: {error}; remove it") from None
    return f"checkpoints/{aside.name}"


def _progress(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _OF_ARRAYS}


def _arrays(batch: Batch) -> dict[str, jax.Array]:
    """Return every array by its path: `weight_E`, `inputs_ER.token_BT`."""
    leaves = jax.tree_util.tree_leaves_with_path(batch)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _batch(arrays: dict[str, jax.Array]) -> Batch:
    within = {name: leaf for name, leaf in arrays.items() if "." in name}
    inputs = Inputs(**{name.removeprefix("inputs_ER."): leaf for name, leaf in within.items()})
    return Batch(inputs_ER=inputs, **{name: leaf for name, leaf in arrays.items() if name not in within})
