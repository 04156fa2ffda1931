"""FLOPs of matrix products and convolutions, two for every multiply-add."""

import math
import re

import numpy as np

from dar_jax.planning.hlo import Computation, Instruction, Shape

_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_STATED = re.compile(r'"cost_estimate":\{[^}]*"flops":"?(\d+)')


def flops(computation: Computation, instruction: Instruction) -> float:
    """Count one run of an instruction; 0 for what is no product. A kernel's are what it states."""
    if instruction.opcode == "dot":
        return 2.0 * instruction.shapes[0].elements * _contracted(computation, instruction)
    if instruction.opcode == "convolution":
        return _convolution(computation, instruction)
    if instruction.opcode == "custom-call" and (stated := _STATED.search(instruction.attributes)):
        return float(stated[1])
    return 0.0


def _contracted(computation: Computation, dot: Instruction) -> int:
    left = computation.instructions[dot.operands[0]].shapes[0]
    return math.prod(left.dims[dim] for dim in dot.sizes("lhs_contracting_dims"))


def _convolution(computation: Computation, instruction: Instruction) -> float:
    """A product seen as a convolution has windows that hang over the edge: only positions on real data count."""
    left, right = (computation.instructions[name].shapes[0] for name in instruction.operands[:2])
    labels = _LABELS.search(instruction.attributes)
    if labels is None:
        raise ValueError(f"{instruction.name}: a convolution without dim_labels")
    places = [dict(zip(text, range(len(text)), strict=True)) for text in labels.groups()]
    made = instruction.shapes[0]
    outer = made.dims[places[2]["b"]] * made.dims[places[2]["f"]] * right.dims[places[1]["i"]]
    window = _Window(instruction.attributes)
    positions = 1
    for axis in sorted(key for key in places[0] if key.isdigit()):
        sizes = (_size(shape, where[axis]) for shape, where in zip((left, right, made), places, strict=True))
        positions *= window.positions(int(axis), *sizes)
    return 2.0 * outer * positions / instruction.number("batch_group_count", 1)


def _size(shape: Shape, position: int) -> int:
    return shape.dims[position]


class _Window:
    """The window of a convolution, as `window={size=2x7 pad=0_0x6_6 lhs_dilate=2x1}` states it."""

    def __init__(self, attributes: str) -> None:
        found = re.search(r"window=\{([^}]*)\}", attributes)
        parts = (part.split("=") for part in found[1].split()) if found else ()
        self._stated = {name: value.split("x") for name, value in parts}

    def positions(self, axis: int, data: int, size: int, made: int) -> int:
        """Count the pairs of an output position and a window position that meet real data along one axis."""
        low = int(self._of("pad", axis, "0_0").split("_")[0])
        stride, dilation, base = (int(self._of(name, axis, "1")) for name in ("stride", "rhs_dilate", "lhs_dilate"))
        at = np.arange(made)[:, None] * stride + np.arange(size)[None] * dilation - low
        return int(((at >= 0) & (at % base == 0) & (at <= (data - 1) * base)).sum())

    def _of(self, name: str, axis: int, default: str) -> str:
        return self._stated[name][axis] if name in self._stated else default
