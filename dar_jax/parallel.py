"""The device mesh, the one table from logical axes to mesh axes, and moves between host and device.

Every array has logical axes (`width`, `heads`, `batch`...), and `RULES` maps them to mesh axes: to change a sharding,
change a row. The same devices form one of two meshes, with axes

    data, fsdp, tensor      while learning: weights are all-gathered over `fsdp` when they are used
    data, spread, tensor    while decoding: every weight is read for every token, so none is gathered (`decode_mesh`)

Each host puts its own shards of an array on its devices. Inputs are compared between hosts first: a host with other
numbers would silently train another model.
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

# Axes that a mesh lacks are skipped, as are the last axes of a row if their product does not divide a size.
RULES: Mapping[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp", "spread"),
    # Rows at weights that are sharded over the remaining axes: moving rows is cheaper than gathering weights.
    "batch_at_mlp": ("data", "fsdp"),
    "batch_at_vocab": ("data",),
    "layers": (),
    "vocab": ("tensor", "fsdp", "spread"),
    # Vocabulary matrices are sharded along the vocabulary only: an all-gather would make a program's largest array.
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
    """The number of devices along each mesh axis; fsdp null takes all that remain. `devices` limits the run to the
    first devices of this machine. `decode` is the number of devices that hold one copy of the weights while decoding
    (null: those of one host).
    """

    data: Count = 1
    fsdp: Count | None = None
    tensor: Count = 1
    devices: Count | None = None
    decode: Count | None = None

    def build(self, devices: Sequence[Any] | None = None) -> Mesh:
        """Return the (data, fsdp, tensor) mesh of these devices, by default this machine's.

        Raises SettingError if the sizes do not multiply to the number of devices, or there are too few.
        """
        devices = (jax.devices() if devices is None else devices)[: self.devices]
        count = len(devices)
        if self.devices and self.devices > count:
            raise SettingError(f"mesh.devices: got {self.devices}, this machine has {count}; lower it or leave it out")
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
    """Return the PartitionSpec of logical axes: each over as many mesh axes of its row as divide its size."""

    def place(axis: str | None, size: int) -> str | tuple[str, ...] | None:
        names = tuple(name for name in RULES[axis] if name in mesh.shape) if axis else ()
        while size % math.prod(mesh.shape[name] for name in names):
            names = names[:-1]
        return names[0] if len(names) == 1 else names or None

    return PartitionSpec(*(place(axis, size) for axis, size in zip(axes, shape, strict=True)))


def constrain(array: jax.Array, *axes: str | None) -> jax.Array:
    """Return an activation with the sharding of its logical axes; unchanged without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return array
    return jax.lax.with_sharding_constraint(array, spec(axes, array.shape, mesh))


def parts(axis: str, size: int) -> int:
    """Return the number of shards of an axis of this size on the current mesh; 1 without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else size // NamedSharding(mesh, spec((axis,), (size,), mesh)).shard_shape((size,))[0]


def platform() -> str:
    """Return the platform of the current mesh, which need not be this machine's (ahead-of-time compilation)."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device else jax.default_backend()


def shardings(abstract: Any, axes: Any, mesh: Mesh) -> Any:
    """Return the NamedSharding of every leaf of a tree of shapes, from the tree of its logical axes."""
    return jax.tree.map(lambda leaf, names: NamedSharding(mesh, spec(names, leaf.shape, mesh)), abstract, axes)


def decode_mesh(mesh: Mesh, kv_heads: int, share: int | None = None) -> Mesh:
    """Return the decode mesh of the devices of `mesh`: groups of `share` neighbours hold one copy of the weights.

    In a group the heads are sharded over as many devices as the key/value heads allow (`tensor`), rows over the rest;
    feed-forward and vocabulary are sharded over the whole group. By default a group is the devices of one host.
    """
    devices = mesh.devices.flatten()
    share = math.gcd(devices.size, share or sum(each.process_index == devices[0].process_index for each in devices))
    tensor = math.gcd(share, kv_heads)
    shape = (devices.size // share, share // tensor, tensor)
    return Mesh(devices.reshape(shape), ("data", "spread", "tensor"), axis_types=(AxisType.Auto,) * 3)


def replicated(tree: Any, mesh: Mesh) -> Any:
    """Return host values replicated on every device. All scalars, keys and masks enter the mesh here.

    Raises SettingError if the hosts' values differ.
    """
    return _enter(tree, jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), tree))


def rows(tree: Any, mesh: Mesh) -> Any:
    """Return host arrays sharded by their leading (row) axis; every host passes the whole arrays.

    Raises SettingError if the hosts' arrays differ.
    """
    arrays = jax.tree.map(np.asarray, tree)
    return _enter(arrays, jax.tree.map(lambda array: _by_rows(array, mesh), arrays))


def local_rows(tree: Any, prompts: int, mesh: Mesh) -> tuple[list[int], Any]:
    """Return the rows owned by this process: ascending global indices, and these rows of each array.

    Every row is owned by one host that holds it, and so are all rows of a prompt if the data and fsdp axes divide the
    prompts. If several hosts hold the same prompts (a tensor axis across hosts), they own them in turn.
    """
    if hosts.count() == 1:
        whole = to_host(tree)
        return list(range(len(jax.tree.leaves(whole)[0]))), whole
    laid = relaid(tree, mesh)
    owner_B = _owners(jax.tree.leaves(laid)[0], prompts)
    row_O = np.flatnonzero(owner_B == hosts.index())
    return row_O.tolist(), jax.tree.map(lambda array: _held(array, row_O), laid)


def whole(tree: Any, mesh: Mesh) -> Any:
    """Return device arrays as whole numpy arrays. A collective: every host must call it."""
    if hosts.count() > 1:
        tree = jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
    return to_host(tree)


def relaid(tree: Any, mesh: Mesh) -> Any:
    """Return arrays of rows resharded to another mesh of the same devices."""
    return jax.device_put(tree, jax.tree.map(lambda leaf: _by_rows(leaf, mesh), tree))


def joined(parts: Sequence[Any], mesh: Mesh) -> Any:
    """Return the concatenation of arrays of rows, sharded by rows."""
    if len(parts) == 1:
        return parts[0]
    tall = jax.eval_shape(_stacked, parts)
    return jax.jit(_stacked, out_shardings=jax.tree.map(lambda leaf: _by_rows(leaf, mesh), tall))(parts)


def _stacked(parts: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *each: jnp.concatenate(each), *parts)


def abstract_rows(tree: Any, mesh: Mesh) -> Any:
    """Return shapes with the shardings that `rows` gives such arrays; no memory is used."""
    return placed(tree, jax.tree.map(lambda leaf: _by_rows(leaf, mesh), tree))


def placed(shapes: Any, shardings: Any) -> Any:
    """Return a tree of shapes with these shardings."""
    return jax.tree.map(lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at), shapes, shardings)


def to_host(tree: Any) -> Any:
    """Return device arrays as numpy arrays; with several hosts they must be replicated."""
    return jax.tree.map(np.asarray, jax.device_get(tree))


def floats(metrics: Mapping[str, jax.Array]) -> dict[str, float]:
    """Return replicated scalars as Python floats."""
    return {key: float(value) for key, value in to_host(dict(metrics)).items()}


def uneven(setting: str, count: int, what: str, sizes: Mapping[str, int]) -> str | None:
    """Return why these rows cannot be sharded on a mesh of these sizes, or None if they can.

    Rows that cannot be sharded are replicated (`spec`), and all devices compute the same.
    """
    shards = sizes["data"] * sizes["fsdp"]
    if count % shards == 0:
        return None
    return (
        f"{setting}: {count} {what} cannot be sharded over the {shards} chips of data x fsdp, which then all compute"
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
            f"mesh.devices: the first {len(devices)} devices are on {len(used)} of {hosts.count()} hosts; leave it out"
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
    """Return a digest of arrays: equal for arrays that are equal to the bit."""
    bits = hashlib.blake2b(digest_size=8)
    shapes = []
    for leaf in jax.tree.leaves(tree):
        bits.update(np.ascontiguousarray(leaf).tobytes())
        shapes.append(f"{leaf.dtype}{list(leaf.shape)}")
    return f"{' '.join(shapes)} {bits.hexdigest()}"


def _owners(array: jax.Array, prompts: int) -> np.ndarray:
    """Return the host that owns each row."""
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
    """Return rows from the shards on this host's devices."""
    taken = np.empty((len(row_O), *array.shape[1:]), array.dtype)
    parts = {shard.index[0].indices(array.shape[0])[:2]: shard.data for shard in array.addressable_shards}
    for (start, stop), part in parts.items():
        within = (row_O >= start) & (row_O < stop)
        taken[within] = np.asarray(part)[row_O[within] - start]
    return taken
