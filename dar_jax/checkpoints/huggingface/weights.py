"""Load weights from files directly onto the mesh: a process reads each part that its devices hold once.

Threads read blocks of about a megabyte, cast them, and copy them to the buffer of each device, which becomes the
device's array. The bytes of parameters in buffers are limited, to one parameter if that is larger. Only the calling
thread uses jax.
"""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding, SingleDeviceSharding

from dar_jax.checkpoints.huggingface.checking import check
from dar_jax.checkpoints.huggingface.folder import find, read_config
from dar_jax.checkpoints.huggingface.layout import Index, Part, Span, parts
from dar_jax.checkpoints.huggingface.shards import INDEX, Tensor, is_finite, open_tensors
from dar_jax.checkpoints.not_finite import some
from dar_jax.errors import SettingError
from dar_jax.models import DecoderConfig, Params

# Told after every tensor how many bytes are read, and of how many.
Progress = Callable[[int, int], None]

_THREADS = 8
_BLOCK = 1 << 20
_IN_FLIGHT = 1 << 30


def load(
    source: str | Path,
    shardings: Any = None,
    dtype: Any = jnp.float32,
    progress: Progress | None = None,
) -> tuple[DecoderConfig, Params]:
    """Read a checkpoint from a local folder or a hub id.

    `shardings` is a tree like the parameters; by default all are on the first device. Raises SettingError with the HF
    names of all tensors that are missing, extra, misshapen or not finite (in `dtype`), or with the truncated file.
    """
    folder = find(source, "config.json", "model*.safetensors", INDEX)
    config = read_config(folder)
    with ExitStack() as stack:
        tensors = open_tensors(folder, stack)
        check(folder, config, tensors)
        broken: set[str] = set()
        params = _stream(_leaves(config, shardings, np.dtype(dtype)), tensors, progress, broken)
    if broken:
        raise SettingError(
            f"{folder}: NaN or infinite numbers in {some(sorted(broken))}; its training diverged or its files are"
            " damaged: take another checkpoint"
        )
    return config, params


@dataclass
class _Leaf:
    """A parameter being loaded: a buffer for every distinct shard of this process's devices."""

    parts: list[Part]
    shape: tuple[int, ...]
    sharding: Sharding
    devices: dict[Index, list[jax.Device]]
    dtype: np.dtype[Any]
    buffers: dict[Index, np.ndarray] = field(default_factory=dict)

    @property
    def path(self) -> tuple[str, ...]:
        return self.parts[0].path

    @property
    def nbytes(self) -> int:
        return sum(math.prod(_lengths(index)) for index in self.devices) * self.dtype.itemsize

    def allocate(self) -> None:
        self.buffers = {index: _aligned(_lengths(index), self.dtype) for index in self.devices}

    def targets(self, part: Part) -> list[tuple[Index, np.ndarray]]:
        """Return the indices within this part that are needed, each with its buffer slice."""
        if part.layer is None:
            return list(self.buffers.items())
        return [
            (index[1:], buffer[part.layer - index[0][0]])
            for index, buffer in self.buffers.items()
            if index[0][0] <= part.layer < index[0][1]
        ]

    def put(self) -> jax.Array:
        """Return the array made of the buffers, which must not be written again: on a CPU they are shared."""
        arrays = [
            jax.device_put(self.buffers[index], device) for index, devices in self.devices.items() for device in devices
        ]
        whole = jax.make_array_from_single_device_arrays(self.shape, self.sharding, arrays)
        self.buffers = {}
        return whole.block_until_ready()


def _leaves(config: DecoderConfig, shardings: Any, dtype: np.dtype[Any]) -> list[_Leaf]:
    grouped: dict[tuple[str, ...], list[Part]] = {}
    for part in parts(config):
        grouped.setdefault(part.path, []).append(part)
    here = SingleDeviceSharding(jax.local_devices()[0])
    leaves = []
    for path, group in grouped.items():
        shape = group[0].shape if group[0].layer is None else (len(group), *group[0].shape)
        sharding = here if shardings is None else _at(shardings, path)
        devices = defaultdict(list)
        for device, slices in sharding.addressable_devices_indices_map(shape).items():
            assert slices is not None
            devices[_index(slices, shape)].append(device)
        leaves.append(_Leaf(group, shape, sharding, dict(devices), dtype))
    return leaves


def _stream(leaves: list[_Leaf], tensors: Mapping[str, Tensor], progress: Progress | None, broken: set[str]) -> Params:
    """Read all leaves; add the names of tensors with NaN or infinite numbers to `broken`."""
    total, done = sum(leaf.nbytes for leaf in leaves), 0
    waiting, flying = deque(leaves), deque[tuple[_Leaf, list[Future[int]]]]()
    params: Params = {}
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="import") as pool:
        try:
            while waiting or flying:
                while waiting and (not flying or _bytes(leaf for leaf, _ in flying) + waiting[0].nbytes <= _IN_FLIGHT):
                    leaf = waiting.popleft()
                    leaf.allocate()
                    jobs = [
                        pool.submit(_fill, part, tensors[part.name], leaf.targets(part), broken) for part in leaf.parts
                    ]
                    flying.append((leaf, jobs))
                leaf, jobs = flying.popleft()
                for job in jobs:
                    done += job.result()
                    if progress:
                        progress(done, total)
                _insert(params, leaf.path, leaf.put())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return params


def _fill(part: Part, tensor: Tensor, targets: Sequence[tuple[Index, np.ndarray]], broken: set[str]) -> int:
    """Read one part of a tensor into its buffers, block by block; return the number of bytes filled."""
    if not targets:
        return 0
    axis, dtype = part.row_axis, targets[0][1].dtype
    wanted = [index[axis] for index, _ in targets]
    each = part.rows_each * math.prod(tensor.shape[1:]) * tensor.dtype.itemsize
    step = max(1, _BLOCK // each)
    for first in range(min(a for a, _ in wanted), max(b for _, b in wanted), step):
        within = [(_cut(index, axis, (first, first + step)), index, place) for index, place in targets]
        within = [one for one in within if one[0][axis][0] < one[0][axis][1]]
        if not within:
            continue
        top, bottom = _hull(part.rows(cut) for cut, _, _ in within)
        left, right = _hull(part.columns(cut) for cut, _, _ in within)
        block = tensor.read((top, bottom), (left, right)).astype(dtype, copy=False)
        if not is_finite(block):
            broken.add(part.name)
        for cut, index, place in within:
            (a, b), (c, d) = part.rows(cut), part.columns(cut)
            lengths = _lengths(cut)
            here = tuple(slice(x - y, x - y + n) for (x, _), (y, _), n in zip(cut, index, lengths, strict=True))
            place[here] = part.layout.to_ours(block[a - top : b - top, c - left : d - left], lengths)
    return sum(place.nbytes for _, place in targets)


def _index(slices: Iterable[slice], shape: tuple[int, ...]) -> Index:
    return tuple(each.indices(size)[:2] for each, size in zip(slices, shape, strict=True))


def _lengths(index: Index) -> tuple[int, ...]:
    return tuple(stop - start for start, stop in index)


def _cut(index: Index, axis: int, span: Span) -> Index:
    start, stop = index[axis]
    return (*index[:axis], (max(start, span[0]), min(stop, span[1])), *index[axis + 1 :])


def _hull(spans: Iterable[Span]) -> Span:
    starts, stops = zip(*spans, strict=True)
    return min(starts), max(stops)


def _bytes(leaves: Iterable[_Leaf]) -> int:
    return sum(leaf.nbytes for leaf in leaves)


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _insert(params: Params, path: tuple[str, ...], leaf: jax.Array) -> None:
    for part in path[:-1]:
        params = params.setdefault(part, {})
    params[path[-1]] = leaf


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Return a buffer aligned so that a CPU device uses it without a copy."""
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(dtype).reshape(shape)
