"""Read and write safetensors files piece by piece.

The library's reader maps files into memory: their pages count as the process's, and a file that shrinks while it is
read kills the process by a signal. Here pieces are read by offset, so that a process holds only what it requested and a
short file is an error. Format: github.com/huggingface/safetensors, README.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from dar_jax.errors import SettingError
from dar_jax.tokens.model_files import inside, read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = {"F64": jnp.float64, "F32": jnp.float32, "F16": jnp.float16, "BF16": jnp.bfloat16}
_LONGEST_HEADER = 1 << 25
_MOST_FILES = 10_000
_MOST_AXES = 8


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor in an open file, read as a matrix of its first axis by all others."""

    path: Path
    file: int
    offset: int
    shape: tuple[int, ...]
    kind: str
    end: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype."""
        return np.dtype(DTYPES[self.kind])

    def read(self, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        """Read a rectangle; only the requested columns if they are less than half of each row."""
        (top, bottom), (left, right) = rows, columns
        width = math.prod(self.shape[1:])
        if 2 * (right - left) > width:
            return self._read(top * width, (bottom - top) * width).reshape(-1, width)[:, left:right]
        return np.stack([self._read(row * width + left, right - left) for row in range(top, bottom)])

    def _read(self, start: int, count: int) -> np.ndarray:
        array = np.empty(count, self.dtype)
        free, place = array.view(np.uint8).data, self.offset + start * self.dtype.itemsize
        while free:
            try:
                got = os.preadv(self.file, [free], place)
            except OSError as error:
                raise damaged(self.path, error) from None
            if not got:
                raise damaged(self.path, "it ended while it was read")
            free, place = free[got:], place + got
        return array


def is_finite(array: np.ndarray) -> bool:
    """Return whether all floats of an array are finite."""
    if array.dtype != jnp.bfloat16:
        return bool(np.isfinite(array).all())
    # numpy's own loop over bfloat16 is slow: an exponent of ones alone is what is not finite.
    exponent = np.ascontiguousarray(array).view(np.uint16) & 0x7F80
    return bool(exponent.max(initial=0) < 0x7F80)


def damaged(path: Path, reason: object) -> SettingError:
    """Return the error of a file that cannot be read."""
    return SettingError(f"{path}: missing, cut off or damaged ({reason}); fetch it again")


def open_tensors(folder: Path, stack: ExitStack) -> dict[str, Tensor]:
    """Open every file of a folder until `stack` closes, and read only the headers. Raises SettingError."""
    found: dict[str, Tensor] = {}
    for file in _files(folder):
        for name, tensor in _open(inside(folder, file), stack):
            if name in found:
                both = f"{found[name].path.name} and {file}"
                raise SettingError(f"{folder}: tensor {name[:100]} is in two files, {both}; fetch them again")
            found[name] = tensor
    return found


def _files(folder: Path) -> list[str]:
    if (folder / SINGLE).exists():
        return [SINGLE]
    if not (folder / INDEX).exists():
        raise SettingError(f"{folder}: no {SINGLE} and no {INDEX}; only safetensors are read")
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise SettingError(f"{folder / INDEX}: no weight_map, which says the file of each tensor; fetch it again")
    files = sorted(set(weight_map.values()))
    if len(files) > _MOST_FILES:
        raise SettingError(f"{folder / INDEX}: it names {len(files):,} files; expected at most {_MOST_FILES:,}")
    return files


def _open(path: Path, stack: ExitStack) -> Iterator[tuple[str, Tensor]]:
    try:
        file = os.open(path, os.O_RDONLY)
        stack.callback(os.close, file)
        size = os.fstat(file).st_size
        length = int.from_bytes(os.pread(file, 8, 0), "little")
        if not 0 < length <= size - 8:
            raise ValueError(f"{size} bytes are too few for its header")
        if length > _LONGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(os.pread(file, length, 8), object_pairs_hook=_unique)
        header.pop("__metadata__", None)
        tensors = [(name, _tensor(path, file, 8 + length, name, entry)) for name, entry in header.items()]
        _check_spans(tensors, 8 + length, size)
        yield from tensors
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, " ".join(str(error).split())[:200] or type(error).__name__) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice in its header")
    return found


def _tensor(path: Path, file: int, base: int, name: str, entry: Mapping[str, Any]) -> Tensor:
    kind, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if not isinstance(kind, str) or len(shape) > _MOST_AXES:
        raise ValueError(f"{name[:100]}: dtype {str(kind)[:20]} with {len(shape)} axes")
    if any(type(number) is not int or not 0 <= number < 1 << 63 for number in (*shape, begin, end)):
        raise ValueError(f"{name[:100]}: a shape or an offset that is no size")
    if kind in DTYPES and end - begin != math.prod(shape) * np.dtype(DTYPES[kind]).itemsize:
        raise ValueError(f"{name[:100]}: {end - begin} bytes for {shape} {kind}")
    return Tensor(path=path, file=file, offset=base + begin, shape=shape, kind=kind, end=base + end)


def _check_spans(tensors: list[tuple[str, Tensor]], start: int, size: int) -> None:
    """Raise ValueError unless the tensors fill the file without gaps."""
    place = start
    for name, tensor in sorted(tensors, key=lambda pair: (pair[1].offset, pair[1].end)):
        if tensor.offset != place or tensor.end < place:
            raise ValueError(f"{name[:100]} begins at byte {tensor.offset}, where {place} is expected")
        place = tensor.end
    if place != size:
        raise ValueError(f"{size} bytes of {place}")


def write_shard(
    path: Path, tensors: Mapping[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]], dtype: np.dtype[Any]
) -> None:
    """Write one file, fetching one tensor at a time."""
    kind = next(kind for kind, each in DTYPES.items() if np.dtype(each) == dtype)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (shape, _) in tensors.items():
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": (begin, end)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, fetch in tensors.values():
            file.write(np.ascontiguousarray(fetch()).view(np.uint8).data)
