"""The device mesh, the one table from logical axes to mesh axes, and moves between host and device.

Every array names its axes logically (`width`, `heads`, `batch`...). `RULES` says on which mesh axes they lie; changing
a layout is changing a row. The same devices are seen as one of two meshes, whose axes are

    data, fsdp, tensor      while learning: weights gathered over `fsdp` as they are used
    data, spread, tensor    while decoding: every weight is read for every token, so none is gathered (`decode_mesh`)
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from dar_jax.errors import SettingError
from dar_jax.settings import STRICT

# Mesh axes that a mesh has not are passed over, and so is the end of a row whose product does not divide a size.
RULES: Mapping[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp", "spread"),
    # Rows where they meet weights that lie over those axes themselves: moving rows is cheaper.
    "batch_at_mlp": ("data", "fsdp"),
    "batch_at_vocab": ("data",),
    "layers": (),
    "vocab": ("tensor", "fsdp", "spread"),
    # The vocabulary's own matrices are split along it alone: gathering one would be the largest array of a program.
    "vocab_width": (),
    "width": ("fsdp",),
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "head_size": (),
    "mlp": ("tensor", "spread"),
    "rank": (),
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MeshShape:
    """How many devices lie along each axis; fsdp left out (null) takes all that remain. `devices` uses only the
    first so many of this machine's. `decode` devices hold one copy of the weights while decoding (null: as many as
    one host has).
    """

    data: PositiveInt = 1
    fsdp: PositiveInt | None = None
    tensor: PositiveInt = 1
    devices: PositiveInt | None = None
    decode: PositiveInt | None = None

    def build(self) -> Mesh:
        """Lay the devices out as (data, fsdp, tensor).

        Raises SettingError where the sizes do not multiply to the number of devices, or there are fewer.
        """
        devices = jax.devices()[: self.devices]
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


def spec(axes: tuple[str | None, ...], shape: tuple[int, ...], mesh: Any) -> PartitionSpec:
    """Place logical axes on mesh axes, each size over as many of its row's as divide it."""

    def place(axis: str | None, size: int) -> str | tuple[str, ...] | None:
        names = tuple(name for name in RULES[axis] if name in mesh.shape) if axis else ()
        while size % math.prod(mesh.shape[name] for name in names):
            names = names[:-1]
        return names[0] if len(names) == 1 else names or None

    return PartitionSpec(*(place(axis, size) for axis, size in zip(axes, shape, strict=True)))


def constrain(array: jax.Array, *axes: str | None) -> jax.Array:
    """Ask the compiler to lay an activation out by its logical axes; nothing without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return array
    return jax.lax.with_sharding_constraint(array, spec(axes, array.shape, mesh))


def platform() -> str:
    """Name the platform that what is traced now is compiled for: that of the mesh, which need not be this machine's."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device else jax.default_backend()


def shardings(abstract: Any, axes: Any, mesh: Mesh) -> Any:
    """Give every leaf of a tree of shapes its NamedSharding, from the tree of its logical axes."""
    return jax.tree.map(lambda leaf, names: NamedSharding(mesh, spec(names, leaf.shape, mesh)), abstract, axes)


def decode_mesh(mesh: Mesh, kv_heads: int, share: int | None = None) -> Mesh:
    """See the devices of `mesh` as those of a decoder: groups of `share` neighbours hold one copy of the weights.

    As many of a group as the key/value heads allow split the heads (`tensor`), the others the rows; feed-forward and
    vocabulary lie over the whole group. By default a group is what one host holds.
    """
    devices = mesh.devices.flatten()
    share = math.gcd(devices.size, share or sum(each.process_index == devices[0].process_index for each in devices))
    tensor = math.gcd(share, kv_heads)
    shape = (devices.size // share, share // tensor, tensor)
    return Mesh(devices.reshape(shape), ("data", "spread", "tensor"), axis_types=(AxisType.Auto,) * 3)


def replicated(tree: Any, mesh: Mesh) -> Any:
    """Put host values on every device, whole. The one entrance for scalars, keys and masks."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def rows(tree: Any, mesh: Mesh) -> Any:
    """Put host arrays on the mesh, split by their leading (row) axis."""

    def put(array: Any) -> jax.Array:
        array = np.asarray(array)
        return jax.device_put(array, _by_rows(array, mesh))

    return jax.tree.map(put, tree)


def relaid(tree: Any, mesh: Mesh) -> Any:
    """Lay arrays of rows that are on the devices already out on another mesh of the same devices."""
    return jax.device_put(tree, jax.tree.map(lambda leaf: _by_rows(leaf, mesh), tree))


def _by_rows(array: Any, mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, spec(("batch",) + (None,) * (array.ndim - 1), array.shape, mesh))


def to_host(tree: Any) -> Any:
    """Fetch device arrays as numpy arrays."""
    return jax.tree.map(np.asarray, jax.device_get(tree))
