"""Bytes that instructions read from and write to HBM.

A slice costs what it takes, an update in place what it changes: not the array they lie in.
"""

from dataclasses import dataclass

from dar_jax.planning.hlo import HBM, Computation, Instruction, Module, Shape

# These move nothing themselves, or are counted where they start.
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
    """Bytes of HBM that one run of an instruction reads and writes."""

    read: float = 0.0
    written: float = 0.0


class Traffic:
    """The HBM traffic of a module's instructions."""

    def __init__(self, module: Module) -> None:
        self._module = module

    def of(self, computation: Computation, instruction: Instruction) -> Moved:
        """Count one run of an instruction."""
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
                read += min(self._used(fused, names[index]), _hbm(shapes))
        return Moved(read, self._made(fused, fused.root, fusion.shapes))

    def _used(self, computation: Computation, name: str, beyond: float = 0.0) -> float:
        """Count what of a fusion's parameter its users read; `beyond`: what those of the fusion's result do."""
        here = sum(self._use(computation, user, name, beyond) for user in computation.users(name))
        return here + (beyond if name == computation.root else 0.0)

    def _use(self, computation: Computation, user: Instruction, name: str, beyond: float) -> float:
        if user.opcode in _ALIASES:
            return self._used(computation, user.name, beyond)
        if user.opcode == "fusion":
            fused = self._module.computations[user.called("calls") or ""]
            places = [index for index, each in enumerate(user.operands) if each == name]
            beyond = self._used(computation, user.name, beyond)
            return sum(self._used(fused, fused.parameters[index], beyond) for index in places)
        if user.opcode == "tuple":
            return 0.0
        whole = sum(shape.nbytes for shape in computation.instructions[name].shapes)
        index = user.operands.index(name)
        return self._part(computation, user, index, float(whole))

    def _part(self, computation: Computation, user: Instruction, index: int, whole: float) -> float:
        if user.opcode in _SLICES and index == 0:
            return float(_size(_sliced(user)))
        if user.opcode in ("dynamic-update-slice", "scatter") and index == 0:
            return 0.0
        return whole

    def _read(self, computation: Computation, user: Instruction, index: int, shapes: tuple[Shape, ...]) -> float:
        whole = _hbm(shapes)
        return self._part(computation, user, index, whole) if whole else 0.0

    def _written(self, computation: Computation, instruction: Instruction) -> float:
        if instruction.opcode in ("copy-start", "slice-start"):
            return _hbm(instruction.shapes[:1] if instruction.opcode == "copy-start" else instruction.shapes[1:2])
        if instruction.opcode in ("dynamic-update-slice", "scatter"):
            return self._changed(computation, instruction) if _hbm(instruction.shapes) else 0.0
        return _hbm(instruction.shapes)

    def _made(self, fused: Computation, name: str, shapes: tuple[Shape, ...]) -> float:
        """Count what a fusion writes; what it hands through costs nothing."""
        root = fused.instructions[name]
        if root.opcode == "tuple":
            return sum(self._made(fused, each, (shape,)) for each, shape in zip(root.operands, shapes, strict=False))
        if not _hbm(shapes) or root.opcode == "parameter":
            return 0.0
        if root.opcode in _ALIASES:
            return self._made(fused, root.operands[0], shapes)
        if root.opcode in ("dynamic-update-slice", "scatter"):
            return self._changed(fused, root)
        if root.opcode == "fusion":
            inner = self._module.computations[root.called("calls") or ""]
            return self._made(inner, inner.root, shapes)
        return _hbm(shapes)

    def _changed(self, computation: Computation, update: Instruction) -> float:
        position = 2 if update.opcode == "scatter" else 1
        return float(sum(shape.nbytes for shape in _shapes(computation, update.operands[position])))


def _shapes(computation: Computation, name: str) -> tuple[Shape, ...]:
    return computation.instructions[name].shapes


def _hbm(shapes: tuple[Shape, ...]) -> float:
    return float(sum(shape.nbytes for shape in shapes if shape.space == HBM))


def _size(shapes: tuple[Shape, ...]) -> int:
    return sum(shape.nbytes for shape in shapes)


def _sliced(user: Instruction) -> tuple[Shape, ...]:
    """Return the shapes that a slice reads; an asynchronous one lists its operand too."""
    return user.shapes[1:2] if user.opcode == "slice-start" else user.shapes
