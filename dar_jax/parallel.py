"""The device mesh, the one table from logical axes to mesh axes, and moves between host and device.

Every array names its axes logically (`width`, `heads`, `batch`...). `RULES` says on which mesh axes they lie; changing
a layout is changing a row. The same devices are seen as one of two meshes, whose axes are

    data, fsdp, tensor      while learning: weights gathered over `fsdp` as they are used
    data, spread, tensor    while decoding: every weight is read for every token, so none is gathered (`decode_mesh`)

Of several hosts every one puts its own parts of an array on its devices. What comes in is compared first: a host with
other numbers would train another model in silence.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from pydantic.dataclasses import dataclass

from dar_jax import hosts
from dar_jax.errors import SettingError
from dar_jax.settings.fields import STRICT, Count

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

    data: Count = 1
    fsdp: Count | None = None
    tensor: Count = 1
    devices: Count | None = None
    decode: Count | None = None

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
        _check_hosts(devices)
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


def parts(axis: str, size: int) -> int:
    """Count the parts that the mesh in use cuts an axis of this size into; 1 without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else size // NamedSharding(mesh, spec((axis,), (size,), mesh)).shard_shape((size,))[0]


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
    """Put host values on every device, whole. The one entrance for scalars, keys and masks.

    Raises SettingError where the hosts do not have the same.
    """
    return _enter(tree, jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), tree))


def rows(tree: Any, mesh: Mesh) -> Any:
    """Put host arrays on the mesh, split by their leading (row) axis; every host has them whole.

    Raises SettingError where the hosts do not have the same.
    """
    arrays = jax.tree.map(np.asarray, tree)
    return _enter(arrays, jax.tree.map(lambda array: _by_rows(array, mesh), arrays))


def own_rows(tree: Any, prompts: int, mesh: Mesh) -> tuple[list[int], Any]:
    """Fetch the rows that this host answers for: their numbers, ascending, and these rows of each array.

    Every row is one host's, that holds it; so are all rows of a prompt, where the prompts divide among the mesh's data
    and fsdp axes. Where several hosts hold a prompt, as where the tensor axis crosses them, prompts are dealt in turn.
    """
    if hosts.count() == 1:
        whole = to_host(tree)
        return list(range(len(jax.tree.leaves(whole)[0]))), whole
    laid = relaid(tree, mesh)
    owner_B = _owners(jax.tree.leaves(laid)[0], prompts)
    row_O = np.flatnonzero(owner_B == hosts.index())
    return row_O.tolist(), jax.tree.map(lambda array: _held(array, row_O), laid)


def whole(tree: Any, mesh: Mesh) -> Any:
    """Fetch device arrays as numpy arrays, wherever their parts lie; every host takes part."""
    if hosts.count() > 1:
        tree = jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
    return to_host(tree)


def relaid(tree: Any, mesh: Mesh) -> Any:
    """Lay arrays of rows that are on the devices already out on another mesh of the same devices."""
    return jax.device_put(tree, jax.tree.map(lambda leaf: _by_rows(leaf, mesh), tree))


def joined(parts: Sequence[Any], mesh: Mesh) -> Any:
    """Put arrays of rows one below the other, each device holding its share of the whole."""
    if len(parts) == 1:
        return parts[0]
    tall = jax.eval_shape(_stacked, parts)
    return jax.jit(_stacked, out_shardings=jax.tree.map(lambda leaf: _by_rows(leaf, mesh), tall))(parts)


def _stacked(parts: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *each: jnp.concatenate(each), *parts)


def abstract_rows(tree: Any, mesh: Mesh) -> Any:
    """Give shapes the places that `rows` would put such arrays in; no memory is taken."""
    return placed(tree, jax.tree.map(lambda leaf: _by_rows(leaf, mesh), tree))


def placed(shapes: Any, places: Any) -> Any:
    """Join a tree of shapes with one of shardings, leaf by leaf."""
    return jax.tree.map(lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at), shapes, places)


def to_host(tree: Any) -> Any:
    """Fetch device arrays as numpy arrays; of several hosts, those that every host holds whole."""
    return jax.tree.map(np.asarray, jax.device_get(tree))


def uneven(setting: str, count: int, what: str, sizes: Mapping[str, int]) -> str | None:
    """Return why these rows do not fit a mesh of these sizes, None where they divide among its devices.

    What does not divide is replicated (`spec`), so that devices compute the same.
    """
    shards = sizes["data"] * sizes["fsdp"]
    if count % shards == 0:
        return None
    return (
        f"{setting}: {count} {what} cannot be shared out over the {shards} chips of data x fsdp, so that they compute"
        f" the same; choose a multiple of {shards}, or a larger mesh.tensor"
    )


def _check_hosts(devices: Sequence[Any]) -> None:
    if jax.process_count() != hosts.count():
        raise SettingError(
            f"jax runs on {jax.process_count()} processes, but this one has not joined the others: train with"
            " dar-jax train --coordinator, or within dar_jax.hosts.joined"
        )
    used = {device.process_index for device in devices}
    if len(used) < hosts.count():
        raise SettingError(
            f"mesh.devices: the first {len(devices)} devices lie on {len(used)} of {hosts.count()} hosts; leave it out"
        )


def _by_rows(array: Any, mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, spec(("batch",) + (None,) * (array.ndim - 1), array.shape, mesh))


def _enter(tree: Any, places: Any) -> Any:
    if hosts.count() == 1:
        return jax.device_put(tree, places)
    plain = jax.tree.map(_plain, tree)
    hosts.agree({"what enters the mesh": _digest(plain)})
    entered = jax.tree.map(
        lambda array, place: jax.make_array_from_callback(array.shape, place, lambda index: array[index]), plain, places
    )
    return jax.tree.map(_keyed, tree, entered)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _keyed(leaf: Any, array: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else array


def _digest(tree: Any) -> str:
    """Describe arrays so that two descriptions are equal where the arrays are, to the bit."""
    bits = hashlib.blake2b(digest_size=8)
    shapes = []
    for leaf in jax.tree.leaves(tree):
        bits.update(np.ascontiguousarray(leaf).tobytes())
        shapes.append(f"{leaf.dtype}{list(leaf.shape)}")
    return f"{' '.join(shapes)} {bits.hexdigest()}"


def _owners(array: jax.Array, prompts: int) -> np.ndarray:
    """Name the host of each row."""
    count = array.shape[0]
    holders: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    places: Mapping[Any, Any] = array.sharding.devices_indices_map(array.shape)
    for device, index in places.items():
        start, stop, _ = index[0].indices(count)
        holders[start, stop].add(device.process_index)
    owner_B = np.empty(count, np.int32)
    for (start, stop), processes in holders.items():
        prompt = np.arange(start, stop) // (count // prompts)
        owner_B[start:stop] = np.array(sorted(processes))[prompt % len(processes)]
    return owner_B


def _held(array: jax.Array, row_O: np.ndarray) -> np.ndarray:
    """Take rows from the parts on this host's devices."""
    taken = np.empty((len(row_O), *array.shape[1:]), array.dtype)
    parts = {shard.index[0].indices(array.shape[0])[:2]: shard.data for shard in array.addressable_shards}
    for (start, stop), part in parts.items():
        within = (row_O >= start) & (row_O < stop)
        taken[within] = np.asarray(part)[row_O[within] - start]
    return taken
