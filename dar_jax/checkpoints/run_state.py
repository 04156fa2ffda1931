"""The state of a run on disk: all that decides its next number, by Orbax, saved while training goes on.

    params      float32 parameters
    optimizer   its state, updates made
    progress    step, update within the step, what the step has measured so far (JSON)
    batch       the weighed batch, when its updates are not all made

Random keys and the data position are functions of (seed, step), so the step says them. A checkpoint's number is
the count of optimizer updates before it.
"""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from dar_jax import parallel
from dar_jax.batches import Batch, Inputs
from dar_jax.checkpoints.saved_params import absolute
from dar_jax.settings import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Checkpointing:
    """When to save: after every so many steps (and always at the end), and within a step after each update
    if asked. The latest `keep` stay on disk.
    """

    every_steps: PositiveInt = 50
    within_step: bool = False
    keep: PositiveInt = 3


class RunState:
    """The sequence of checkpoints of one run, in a folder or under `gs://`. All calls come from the main thread."""

    def __init__(self, directory: Path | str, keep: int) -> None:
        self._orbax = ocp.training.Checkpointer(
            absolute(directory),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.LatestN(keep),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._orbax.close()

    @property
    def latest(self) -> int | None:
        """The number of the newest complete checkpoint, or None."""
        newest = self._orbax.latest
        return None if newest is None else newest.step

    def save(self, number: int, trees: dict[str, Any], progress: dict[str, Any], batch: Batch | None) -> None:
        """Start saving; returns when the arrays are safe from donation. A number already saved stays."""
        if number in {each.step for each in self._orbax.checkpoints}:
            return
        items: dict[str, Any] = {**trees, "progress": progress}
        if batch is not None:
            arrays = _arrays(batch)
            shapes = {name: [list(leaf.shape), str(leaf.dtype)] for name, leaf in arrays.items()}
            items |= {"batch": arrays, "progress": progress | {"batch": shapes}}
        self._orbax.save_checkpointables_async(number, items)

    def load(
        self, number: int, abstract: dict[str, Any], mesh: jax.sharding.Mesh
    ) -> tuple[dict[str, Any], dict[str, Any], Batch | None]:
        """Load (trees, progress, batch or None) onto the places that `abstract` names."""
        progress = dict(self._orbax.load_checkpointables(number, {"progress": None})["progress"])
        trees = self._orbax.load_checkpointables(number, abstract)
        shapes = progress.pop("batch", None)
        if shapes is None:
            return trees, progress, None
        wanted = {name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype)) for name, (shape, dtype) in shapes.items()}
        wanted = parallel.abstract_rows(wanted, mesh)
        arrays = self._orbax.load_checkpointables(number, {"batch": wanted})["batch"]
        return trees, progress, _batch(arrays)


def _arrays(batch: Batch) -> dict[str, jax.Array]:
    """Name every array by its path: `weight_E`, `inputs_ER.token_BT`."""
    leaves = jax.tree_util.tree_leaves_with_path(batch)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _batch(arrays: dict[str, jax.Array]) -> Batch:
    within = {name: leaf for name, leaf in arrays.items() if "." in name}
    inputs = Inputs(**{name.removeprefix("inputs_ER."): leaf for name, leaf in within.items()})
    return Batch(inputs_ER=inputs, **{name: leaf for name, leaf in arrays.items() if name not in within})
