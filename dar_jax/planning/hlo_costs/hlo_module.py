"""Parse compiled HLO text into computations and instructions, as far as counting costs needs it.

The text is `compiled.as_text()` of the TPU or CPU compiler, with one instruction a line:

    ROOT %name = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} fusion(%operand, %operand), kind=kLoop, calls=%computation
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_START = re.compile(r"^\s+(ROOT )?%?[\w.\-]+ = ")
_END = re.compile(r"^\}($|, execution_thread)")
_SHAPE = re.compile(r"(\w+)\[([\d,<=]*)\](?:\{([\d,]*)([^{}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_TILE = re.compile(r"T\(([\d,*]+)\)")
_SPACE = re.compile(r"S\((\d+)\)")
_BITS = re.compile(r"\d+")
HBM = 0


@dataclass(frozen=True)
class Shape:
    """An array's shape, layout and memory; `space` 0 is HBM (on a CPU host memory), 1 a TPU's VMEM."""

    dtype: str
    dims: tuple[int, ...]
    minor_to_major: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    space: int = HBM

    @property
    def elements(self) -> int:
        """Number of elements, without padding."""
        return math.prod(self.dims)

    @property
    def nbytes(self) -> int:
        """Bytes in memory, with the minor dimensions padded to the tile."""
        sizes = [self.dims[dim] for dim in self.minor_to_major] or list(self.dims)
        for position, tile in enumerate(reversed(self.tile[-len(sizes) :] if sizes else ())):
            sizes[position] = -(-sizes[position] // tile) * tile
        return math.ceil(math.prod(sizes) * item_bytes(self.dtype))


@dataclass(frozen=True)
class Instruction:
    """One instruction: its output shapes (several for a tuple), its operands' names, and the rest as text."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    inner: str
    attributes: str

    def called(self, attribute: str) -> str | None:
        """Return the name of the computation in `attribute` (`calls`, `body`, ...), None if it is absent."""
        found = re.search(rf"\b{attribute}=%?([\w.\-]+)", self.attributes)
        return found[1] if found else None

    def sizes(self, attribute: str) -> tuple[int, ...]:
        """Return an attribute of the form `name={1,2}`; empty if it is absent."""
        found = re.search(rf"\b{attribute}=\{{([\d,]*)\}}", self.attributes)
        return tuple(int(each) for each in found[1].split(",") if each) if found else ()

    @property
    def branches(self) -> tuple[str, ...]:
        """Return the names of a conditional's branch computations."""
        if found := re.search(r"branch_computations=\{([^}]*)\}", self.attributes):
            return tuple(_NAME.findall(found[1]))
        return tuple(name for kind in ("true", "false") if (name := self.called(f"{kind}_computation")))

    def number(self, attribute: str, default: int = 0) -> int:
        """Return an attribute of the form `name=3`."""
        found = re.search(rf"\b{attribute}=(\d+)", self.attributes)
        return int(found[1]) if found else default


@dataclass
class Computation:
    """Instructions by name, in order, and the name of the root."""

    name: str
    instructions: dict[str, Instruction] = field(default_factory=dict)
    root: str = ""

    @property
    def parameters(self) -> dict[int, str]:
        """Return the parameters' names by their number."""
        found = (each for each in self.instructions.values() if each.opcode == "parameter")
        return {int(each.inner): each.name for each in found}

    def users(self, name: str) -> list[Instruction]:
        """Return the instructions that read this one."""
        return [each for each in self.instructions.values() if name in each.operands]


@dataclass(frozen=True)
class Module:
    """A compiled program: its computations by name, and the name of the entry computation."""

    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """Parse a module. Raises ValueError if the text has no entry computation, so has an unknown format."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in _whole_lines(text):
        if current is None:
            if header := _HEADER.match(line):
                current = computations.setdefault(header[2], Computation(header[2]))
                entry = header[2] if header[1] else entry
        elif _END.match(line):
            current = None
        else:
            instruction = _instruction(line)
            current.instructions[instruction.name] = instruction
            if line.lstrip().startswith("ROOT "):
                current.root = instruction.name
    if not entry:
        raise ValueError(
            "no entry computation in the compiled text: this version of XLA writes HLO in an unknown format"
        )
    return Module(computations=computations, entry=entry)


def _whole_lines(text: str) -> Iterator[str]:
    """Yield the lines, joining those of an instruction whose attributes have line breaks (a Pallas kernel's)."""
    whole = ""
    for line in text.splitlines():
        if whole and (_START.match(line) or _END.match(line) or _HEADER.match(line)):
            yield whole
            whole = line
        else:
            whole += line
    yield whole


def item_bytes(dtype: str) -> float:
    """Return the bytes of one element; a token has none."""
    if dtype in ("token", "opaque"):
        return 0
    if dtype == "pred":
        return 1
    bits = _BITS.search(dtype)
    return int(bits[0]) / 8 if bits else 0


def shapes(text: str) -> tuple[Shape, ...]:
    """Parse a type: one shape, or all of a tuple's."""
    return tuple(_shape(*found) for found in _SHAPE.findall(text))


def _shape(dtype: str, dims: str, order: str, layout: str) -> Shape:
    tile, space = _TILE.search(layout), _SPACE.search(layout)
    return Shape(
        dtype=dtype,
        dims=_numbers(dims.replace("<=", "")),
        minor_to_major=_numbers(order),
        tile=_numbers(tile[1].replace("*", "1")) if tile else (),
        space=int(space[1]) if space else HBM,
    )


def _instruction(line: str) -> Instruction:
    left, right = line.strip().removeprefix("ROOT ").split(" = ", 1)
    end = _closing(right, 0) + 1 if right.startswith("(") else right.index(" ")
    kind, rest = right[:end], right[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    inner = rest[opening + 1 : closing]
    return Instruction(
        name=left.lstrip("%"),
        opcode=rest[:opening],
        shapes=shapes(kind),
        operands=tuple(_NAME.findall(inner)),
        inner=inner,
        attributes=rest[closing + 1 :],
    )


def _closing(text: str, opening: int) -> int:
    """Return the position of the parenthesis that closes the one at `opening`."""
    depth = 0
    for position in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise ValueError(f"unbalanced parentheses: {text[:120]}")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(",") if each)
