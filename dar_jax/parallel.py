"""The device mesh, the one table from logical axes to mesh axes, and moves between host and device.

Every array names its axes logically (`width`, `heads`, `batch`...). `TRAIN_RULES` and `DECODE_RULES` say
on which mesh axes they lie; changing a layout is changing a row.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from dar_jax.errors import SettingError
from dar_jax.settings import STRICT

Rules = Mapping[str, str | tuple[str, ...] | None]

TRAIN_RULES: Rules = {
    "batch": ("data", "fsdp"),
    "layers": None,
    "vocab": "tensor",
    "width": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_size": None,
    "mlp": "tensor",
    "rank": None,
}
# Decode reads every weight for every token: a width split over fsdp would gather the model per token.
DECODE_RULES: Rules = {**TRAIN_RULES, "width": None}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MeshShape:
    """How many devices lie along each axis; fsdp left out (null) takes all that remain. `devices` uses only the
    first so many of this machine's.
    """

    data: PositiveInt = 1
    fsdp: PositiveInt | None = None
    tensor: PositiveInt = 1
    devices: PositiveInt | None = None

    def build(self, devices: Sequence[Any] | None = None) -> Mesh:
        """Lay the devices, this machine's unless others are given, out as (data, fsdp, tensor).

        Raises SettingError where the sizes do not multiply to the number of devices, or there are fewer.
        """
        devices = (jax.devices() if devices is None else devices)[: self.devices]
        count = len(devices)
        if self.devices and self.devices > count:
            raise SettingError(
                f"mesh.devices: {self.devices} asked for, this machine has {count}; lower it or leave it out"
            )
        fsdp = self.fsdp or max(1, count // (self.data * self.tensor))
        if self.data * fsdp * self.tensor != count:
            raise SettingError(
                f"mesh: data={self.data} x fsdp={fsdp} x tensor={self.tensor} is not the number of devices,"
                f" {count}; set mesh.data, mesh.fsdp and mesh.tensor so that their product is {count}"
            )
        shape, names = (self.data, fsdp, self.tensor), ("data", "fsdp", "tensor")
        return jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * 3, devices=devices)


def spec(axes: tuple[str | None, ...], shape: tuple[int, ...], mesh: Any, rules: Rules = TRAIN_RULES) -> PartitionSpec:
    """Place logical axes on mesh axes; a size that its mesh axes do not divide stays whole."""

    def place(axis: str | None, size: int) -> str | tuple[str, ...] | None:
        target = rules[axis] if axis else None
        if target is None:
            return None
        names = (target,) if isinstance(target, str) else target
        return target if size % math.prod(mesh.shape[name] for name in names) == 0 else None

    return PartitionSpec(*(place(axis, size) for axis, size in zip(axes, shape, strict=True)))


def constrain(array: jax.Array, *axes: str | None) -> jax.Array:
    """Ask the compiler to lay an activation out by its logical axes; nothing without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return array
    return jax.lax.with_sharding_constraint(array, spec(axes, array.shape, mesh))


def shardings(abstract: Any, axes: Any, mesh: Mesh, rules: Rules = TRAIN_RULES) -> Any:
    """Give every leaf of a tree of shapes its NamedSharding, from the tree of its logical axes."""
    return jax.tree.map(lambda leaf, names: NamedSharding(mesh, spec(names, leaf.shape, mesh, rules)), abstract, axes)


def replicated(tree: Any, mesh: Mesh) -> Any:
    """Put host values on every device, whole. The one entrance for scalars, keys and masks."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def rows(tree: Any, mesh: Mesh) -> Any:
    """Put host arrays on the mesh, split by their leading (row) axis."""

    def put(array: Any) -> jax.Array:
        array = np.asarray(array)
        axes = ("batch",) + (None,) * (array.ndim - 1)
        return jax.device_put(array, NamedSharding(mesh, spec(axes, array.shape, mesh)))

    return jax.tree.map(put, tree)


def abstract_rows(tree: Any, mesh: Mesh) -> Any:
    """Give shapes the places that `rows` would put such arrays in; no memory is taken."""

    def place(leaf: Any) -> jax.ShapeDtypeStruct:
        axes = ("batch",) + (None,) * (leaf.ndim - 1)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec(axes, leaf.shape, mesh)))

    return jax.tree.map(place, tree)


def placed(shapes: Any, places: Any) -> Any:
    """Join a tree of shapes with one of shardings, leaf by leaf."""
    return jax.tree.map(lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at), shapes, places)


def to_host(tree: Any) -> Any:
    """Fetch device arrays as numpy arrays."""
    return jax.tree.map(np.asarray, jax.device_get(tree))
