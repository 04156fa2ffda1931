"""Map tensors of the files to our parameters and their parts.

An index is a (start, stop) for every axis.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dar_jax.models import DecoderConfig, Params, abstract, families
from dar_jax.models.families.family import Kernel, Path, Plain, Shape, TensorMapping

Span = tuple[int, int]
Index = tuple[Span, ...]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One layer of a parameter, or a whole parameter without layers: its shape, and the tensor `name` of the files that
    has it from row `start` on.
    """

    path: Path
    layer: int | None
    shape: Shape
    name: str
    start: int
    layout: Kernel | Plain

    @property
    def hf_shape(self) -> Shape:
        """The shape in the file."""
        return self.layout.hf_shape(self.shape)

    @property
    def row_axis(self) -> int:
        """The axis of ours whose steps are whole rows in the file."""
        return self.layout.hf_axes(len(self.shape))[0][0]

    @property
    def rows_each(self) -> int:
        """The number of rows in the file for one index of `row_axis`."""
        return self.hf_shape[0] // self.shape[self.row_axis]

    def rows(self, index: Index) -> Span:
        """Return the rows of the tensor for an index of this part."""
        first, last = self._flat(0, index)
        return self.start + first, self.start + last

    def columns(self, index: Index) -> Span:
        """Return the columns of the tensor for an index of this part; a tensor of one axis has one."""
        return self._flat(1, index) if len(self.hf_shape) > 1 else (0, 1)

    def _flat(self, hf_axis: int, index: Index) -> Span:
        first, *rest = self.layout.hf_axes(len(self.shape))[hf_axis]
        if any(index[axis] != (0, self.shape[axis]) for axis in rest):
            raise ValueError(f"{'/'.join(self.path)}: split along an axis that the file keeps inside another")
        each = math.prod(self.shape[axis] for axis in rest)
        return index[first][0] * each, index[first][1] * each


def parts(config: DecoderConfig) -> list[Part]:
    """Return the parts of all parameters of this decoder, grouped by parameter."""
    shapes = abstract(config)
    found = []
    for row in families.FAMILIES[config.family].tensors:
        shape = shape_at(shapes, row.path)
        if shape is None:
            continue
        if "{}" not in row.name:
            found.append(_part(row, None, shape, shapes))
        else:
            found += [_part(row, layer, shape[1:], shapes) for layer in range(shape[0])]
    return found


def tensors(config: DecoderConfig) -> dict[str, list[Part]]:
    """Return the tensors of the files, grouped by layer, each with its parts in order."""
    found: dict[str, list[Part]] = {}
    for part in sorted(parts(config), key=lambda part: (part.layer or 0, part.start)):
        found.setdefault(part.name, []).append(part)
    return found


def joined_shape(held: Sequence[Part]) -> Shape:
    """Return the shape of a tensor with these parts concatenated along its first axis."""
    return sum(part.hf_shape[0] for part in held), *held[0].hf_shape[1:]


def shape_at(shapes: Params, path: Path) -> Shape | None:
    """Return the shape of a parameter, None if the decoder does not have it."""
    node: Any = shapes
    for name in path:
        node = node.get(name) if node is not None else None
    return None if node is None else node.shape


def _part(row: TensorMapping, layer: int | None, shape: Shape, shapes: Params) -> Part:
    before = row.fused_with[: row.fused_with.index(row.path)] if row.fused_with else ()
    start = 0
    for path in before:
        neighbour = shape_at(shapes, path)
        assert neighbour is not None, path
        start += row.layout.hf_shape(neighbour if layer is None else neighbour[1:])[0]
    name = row.name if layer is None else row.name.format(layer)
    return Part(path=row.path, layer=layer, shape=shape, name=name, start=start, layout=row.layout)
