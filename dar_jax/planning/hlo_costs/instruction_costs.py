"""FLOPs, HBM traffic and interconnect traffic of single HLO instructions."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dar_jax.planning.hlo_costs.hlo_module import HBM, Computation, Instruction, Module, Shape

_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_COST_ESTIMATE = re.compile(r'"cost_estimate":\{[^}]*"flops":"?(\d+)')


def flops(computation: Computation, instruction: Instruction) -> float:
    """Return the FLOPs of matmuls and convolutions, two a multiply-add, and a kernel's cost estimate; 0 for others."""
    if instruction.opcode == "dot":
        return 2.0 * instruction.shapes[0].elements * _contracted(computation, instruction)
    if instruction.opcode == "convolution":
        return _convolution(computation, instruction)
    if instruction.opcode == "custom-call" and (estimate := _COST_ESTIMATE.search(instruction.attributes)):
        return float(estimate[1])
    return 0.0


def _contracted(computation: Computation, dot: Instruction) -> int:
    left = computation.instructions[dot.operands[0]].shapes[0]
    return math.prod(left.dims[dim] for dim in dot.sizes("lhs_contracting_dims"))


def _convolution(computation: Computation, instruction: Instruction) -> float:
    """Return the FLOPs of a convolution; only window positions on real data count.

    The TPU compiler writes matmuls as convolutions whose windows reach over the edge.
    """
    left, right = (computation.instructions[name].shapes[0] for name in instruction.operands[:2])
    labels = _LABELS.search(instruction.attributes)
    if labels is None:
        raise ValueError(f"{instruction.name}: convolution without dim_labels")
    axes = [dict(zip(text, range(len(text)), strict=True)) for text in labels.groups()]
    made = instruction.shapes[0]
    outer = made.dims[axes[2]["b"]] * made.dims[axes[2]["f"]] * right.dims[axes[1]["i"]]
    window = _Window(instruction.attributes)
    positions = 1
    for axis in sorted(key for key in axes[0] if key.isdigit()):
        sizes = (shape.dims[where[axis]] for shape, where in zip((left, right, made), axes, strict=True))
        positions *= window.positions(int(axis), *sizes)
    return 2.0 * outer * positions / instruction.number("batch_group_count", 1)


class _Window:
    """The window of a convolution, parsed from `window={size=2x7 pad=0_0x6_6 lhs_dilate=2x1}`."""

    def __init__(self, attributes: str) -> None:
        found = re.search(r"window=\{([^}]*)\}", attributes)
        parts = (part.split("=") for part in found[1].split()) if found else ()
        self._fields = {name: value.split("x") for name, value in parts}

    def positions(self, axis: int, data: int, size: int, made: int) -> int:
        """Return the number of (output, window) position pairs on real data along one axis."""
        low = int(self._field("pad", axis, "0_0").split("_")[0])
        stride, dilation, base = (int(self._field(name, axis, "1")) for name in ("stride", "rhs_dilate", "lhs_dilate"))
        at = np.arange(made)[:, None] * stride + np.arange(size)[None] * dilation - low
        return int(((at >= 0) & (at % base == 0) & (at <= (data - 1) * base)).sum())

    def _field(self, name: str, axis: int, default: str) -> str:
        return self._fields[name][axis] if name in self._fields else default


_GROUP_LIST = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_GROUP_COUNT = re.compile(r"replica_groups=\[(\d+),(\d+)\]")
_GROUP_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}")
_SAME_DATA = ("bitcast", "copy", "reshape")


def _share(count: int) -> float:
    """Return (n - 1) / n, or its limit 1 for a group of unknown size."""
    return (count - 1) / count if count else 1.0


# Bytes that a chip sends, as a function of (input bytes, output bytes, group size), for ring algorithms, which send the
# least: of n chips each sends (n - 1) / n of the whole to gather or scatter, twice that for an all-reduce.
_KINDS: Mapping[str, Callable[[float, float, int], float]] = {
    "all-gather": lambda _, out, count: out * _share(count),
    "all-reduce": lambda into, _, count: 2 * into * _share(count),
    "reduce-scatter": lambda into, _, count: into * _share(count),
    "all-to-all": lambda into, _, count: into * _share(count),
    "ragged-all-to-all": lambda into, _, count: into * _share(count),
    "collective-permute": lambda into, _, count: into,
}


def sent(computation: Computation, instruction: Instruction) -> tuple[str, float]:
    """Return the kind of a collective and the bytes that a chip sends; 0 bytes for other instructions."""
    kind = instruction.opcode.removesuffix("-start")
    if kind not in _KINDS or _is_continuation(computation, instruction):
        return kind, 0.0
    kind = _collective_kind(computation, instruction, kind)
    into = sum(shape.nbytes for name in instruction.operands for shape in computation.instructions[name].shapes)
    made = sum(shape.nbytes for shape in instruction.shapes)
    if instruction.opcode.endswith("-start"):
        made -= into  # an asynchronous start outputs its operands too
    return kind, _KINDS[kind](into, made, group_size(instruction.attributes))


def group_size(attributes: str) -> int:
    """Return the number of chips in a replica group; 0 if the text has no groups, which means all chips."""
    if group := _GROUP_LIST.search(attributes):
        return len(group[1].split(","))
    if counts := _GROUP_COUNT.search(attributes):
        return int(counts[2])
    if mesh := _GROUP_MESH.search(attributes):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh[1])}
        return math.prod(sizes[name] for name in re.findall(r"'(\w+)'", mesh[2]))
    return 0


def _is_continuation(computation: Computation, instruction: Instruction) -> bool:
    """Return whether this continues a collective that the TPU compiler splits over several fusions.

    Only the fusion with AsyncCollectiveStart counts.
    """
    others = computation.instructions.values()
    return "chain_id=" in instruction.attributes and not any(
        "AsyncCollectiveStart" in each.attributes for each in others
    )


def _collective_kind(computation: Computation, instruction: Instruction, kind: str) -> str:
    """Return the kind; the TPU compiler writes a reduce-scatter as an all-reduce of which a fusion keeps a slice."""
    if kind != "all-reduce":
        return kind
    users = computation.users(instruction.name)
    while len(users) == 1 and users[0].opcode in _SAME_DATA:
        users = computation.users(users[0].name)
    fused = any(each.opcode == "parameter" for each in computation.instructions.values())
    return "reduce-scatter" if fused and users and all(each.opcode == "dynamic-slice" for each in users) else kind


# Instructions without traffic of their own; asynchronous ones are counted at their start.
_FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "conditional",
    "call",
    "after-all",
    "partition-id",
    "replica-id",
    "iota",
    "opt-barrier",
    "optimization-barrier",
}
_SLICES = ("dynamic-slice", "slice", "slice-start", "gather")
_ALIASES = ("bitcast", "reshape")


@dataclass(frozen=True)
class Moved:
    """Bytes of HBM that an instruction reads and writes."""

    read: float = 0.0
    written: float = 0.0


class HbmTraffic:
    """The HBM traffic of a module's instructions.

    A slice costs the bytes it selects and an in-place update the bytes it changes, not the whole array.
    """

    def __init__(self, module: Module) -> None:
        self._module = module

    def of(self, computation: Computation, instruction: Instruction) -> Moved:
        """Return the traffic of one execution."""
        if instruction.opcode in _FREE or instruction.opcode.endswith("-done"):
            return Moved()
        if instruction.opcode == "custom-call" and "tpu_custom_call" not in instruction.attributes:
            return Moved()
        if instruction.opcode == "fusion":
            return self._fusion(computation, instruction)
        operands = enumerate(_shapes(computation, name) for name in instruction.operands)
        read = sum(self._read(computation, instruction, index, shapes) for index, shapes in operands)
        return Moved(read, self._written(computation, instruction))

    def _fusion(self, computation: Computation, fusion: Instruction) -> Moved:
        fused = self._module.computations[fusion.called("calls") or ""]
        names, read = fused.parameters, 0.0
        for index, name in enumerate(fusion.operands):
            shapes = _shapes(computation, name)
            if any(shape.space == HBM for shape in shapes):
                read += min(self._read_by_users(fused, names[index]), _hbm(shapes))
        return Moved(read, self._fusion_writes(fused, fused.root, fusion.shapes))

    def _read_by_users(self, computation: Computation, name: str, beyond: float = 0.0) -> float:
        """Return the bytes of a fusion's parameter that are read, `beyond` of them by users of the fusion's result."""
        here = sum(self._read_by(computation, user, name, beyond) for user in computation.users(name))
        return here + (beyond if name == computation.root else 0.0)

    def _read_by(self, computation: Computation, user: Instruction, name: str, beyond: float) -> float:
        if user.opcode in _ALIASES:
            return self._read_by_users(computation, user.name, beyond)
        if user.opcode == "fusion":
            fused = self._module.computations[user.called("calls") or ""]
            positions = [index for index, each in enumerate(user.operands) if each == name]
            beyond = self._read_by_users(computation, user.name, beyond)
            return sum(self._read_by_users(fused, fused.parameters[index], beyond) for index in positions)
        if user.opcode == "tuple":
            return 0.0
        whole = sum(shape.nbytes for shape in computation.instructions[name].shapes)
        index = user.operands.index(name)
        return self._operand_bytes(computation, user, index, float(whole))

    def _operand_bytes(self, computation: Computation, user: Instruction, index: int, whole: float) -> float:
        if user.opcode in _SLICES and index == 0:
            return float(_nbytes(_sliced(user)))
        if user.opcode in ("dynamic-update-slice", "scatter") and index == 0:
            return 0.0
        return whole

    def _read(self, computation: Computation, user: Instruction, index: int, shapes: tuple[Shape, ...]) -> float:
        whole = _hbm(shapes)
        return self._operand_bytes(computation, user, index, whole) if whole else 0.0

    def _written(self, computation: Computation, instruction: Instruction) -> float:
        if instruction.opcode in ("copy-start", "slice-start"):
            return _hbm(instruction.shapes[:1] if instruction.opcode == "copy-start" else instruction.shapes[1:2])
        if instruction.opcode in ("dynamic-update-slice", "scatter"):
            return self._updated(computation, instruction) if _hbm(instruction.shapes) else 0.0
        return _hbm(instruction.shapes)

    def _fusion_writes(self, fused: Computation, name: str, shapes: tuple[Shape, ...]) -> float:
        """Return the bytes that a fusion writes; parameters that it returns unchanged cost nothing."""
        root = fused.instructions[name]
        if root.opcode == "tuple":
            outputs = zip(root.operands, shapes, strict=False)
            return sum(self._fusion_writes(fused, each, (shape,)) for each, shape in outputs)
        if not _hbm(shapes) or root.opcode == "parameter":
            return 0.0
        if root.opcode in _ALIASES:
            return self._fusion_writes(fused, root.operands[0], shapes)
        if root.opcode in ("dynamic-update-slice", "scatter"):
            return self._updated(fused, root)
        if root.opcode == "fusion":
            inner = self._module.computations[root.called("calls") or ""]
            return self._fusion_writes(inner, inner.root, shapes)
        return _hbm(shapes)

    def _updated(self, computation: Computation, update: Instruction) -> float:
        position = 2 if update.opcode == "scatter" else 1
        return float(sum(shape.nbytes for shape in _shapes(computation, update.operands[position])))


def _shapes(computation: Computation, name: str) -> tuple[Shape, ...]:
    return computation.instructions[name].shapes


def _hbm(shapes: tuple[Shape, ...]) -> float:
    return float(sum(shape.nbytes for shape in shapes if shape.space == HBM))


def _nbytes(shapes: tuple[Shape, ...]) -> int:
    return sum(shape.nbytes for shape in shapes)


def _sliced(user: Instruction) -> tuple[Shape, ...]:
    """Return the shapes that a slice reads; an asynchronous one lists them after its operand."""
    return user.shapes[1:2] if user.opcode == "slice-start" else user.shapes
