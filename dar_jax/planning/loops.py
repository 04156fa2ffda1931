"""How often the loops of a compiled program run.

XLA's own cost analysis counts the body of a loop once. The CPU's compiler leaves the trip count in the text
(`known_trip_count`); the TPU's does not, so it is read off the loop itself: the counter's start, its step, its limit.
"""

import math
import re
from dataclasses import dataclass

from dar_jax.planning.hlo import Computation, Instruction, Module

_KNOWN = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_SAME_VALUE = ("copy", "bitcast", "convert", "reshape", "copy-done", "optimization-barrier")


@dataclass(frozen=True)
class Trips:
    """How often a loop runs; not `exact`: at most so often, it may end sooner."""

    count: int
    exact: bool = True


@dataclass(frozen=True)
class Place:
    """An instruction seen from within its computation; `outer` gives a fusion's parameters their operands."""

    computation: Computation
    name: str
    outer: "tuple[Place, ...]" = ()

    @property
    def instruction(self) -> Instruction:
        """What stands there."""
        return self.computation.instructions[self.name]

    def operand(self, index: int) -> "Place":
        """Go to an operand."""
        return Place(self.computation, self.instruction.operands[index], self.outer)


class Loops:
    """The loops of a module."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._homes = {
            loop.called("body"): Place(computation, loop.name)
            for computation in module.computations.values()
            for loop in computation.instructions.values()
            if loop.opcode == "while"
        }

    def trips(self, computation: Computation, loop: Instruction) -> Trips | None:
        """Return the trip count of a `while`, None if its text does not have it."""
        if known := _KNOWN.search(loop.attributes):
            return Trips(int(known[1]))
        condition = self._module.computations[loop.called("condition") or ""]
        parts = self._conjunction(Place(condition, condition.root))
        bounds = [bound for part in parts if (bound := self._bound(part, Place(computation, loop.name))) is not None]
        return Trips(min(bounds), exact=len(parts) == 1) if bounds else None

    def _conjunction(self, place: Place) -> list[Place]:
        place = self._source(place)
        if place.instruction.opcode != "and":
            return [place]
        return [part for index in (0, 1) for part in self._conjunction(place.operand(index))]

    def _bound(self, place: Place, loop: Place) -> int | None:
        """Read `counter < limit` as a number of trips."""
        if place.instruction.opcode != "compare":
            return None
        sides = [self._source(place.operand(index)) for index in (0, 1)]
        counter, limit = _element(sides[0]), self._value(sides[1], loop)
        if counter is None or limit is None:
            return None
        start = self._value(self._handed(loop, counter), loop)
        step = self._step(loop, counter)
        if start is None or not step:
            return None
        distance = (limit - start) * (1 if step > 0 else -1)
        closed = "direction=LE" in place.instruction.attributes or "direction=GE" in place.instruction.attributes
        return max(0, math.ceil((distance + closed) / abs(step)))

    def _value(self, place: Place, loop: Place) -> int | None:
        """Follow a value to a constant: through the loop's start where no trip changes it, and outer loops'."""
        place = self._source(place)
        if place.instruction.opcode == "constant":
            return int(place.instruction.inner) if re.fullmatch(r"-?\d+", place.instruction.inner) else None
        index = _element(place)
        if index is None:
            return None
        called = (loop.instruction.called("condition"), loop.instruction.called("body"))
        around = loop if place.computation.name in called else self._homes.get(place.computation.name)
        if around is None or not self._unchanged(around, index):
            return None
        return self._value(self._handed(around, index), around)

    def _step(self, loop: Place, index: int) -> int | None:
        """Read what a trip adds to an element of the loop's state."""
        last = self._source(self._left(loop, index))
        if last.instruction.opcode != "add":
            return None
        sides = [self._source(last.operand(side)) for side in (0, 1)]
        for one, other in (sides, sides[::-1]):
            if _element(one) == index and other.instruction.opcode == "constant":
                return int(other.instruction.inner)
        return None

    def _unchanged(self, loop: Place, index: int) -> bool:
        return _element(self._source(self._left(loop, index))) == index

    def _left(self, loop: Place, index: int) -> Place:
        """Go to what a trip leaves in an element of the state."""
        body = self._module.computations[loop.instruction.called("body") or ""]
        return self._entry(Place(body, body.root), index)

    def _handed(self, loop: Place, index: int) -> Place:
        """Go to what the loop's state holds before the first trip."""
        return self._entry(loop.operand(0), index)

    def _entry(self, place: Place, index: int) -> Place:
        place = self._source(place)
        return place.operand(index) if place.instruction.opcode == "tuple" else place

    def _source(self, place: Place) -> Place:
        """Follow a value to where it is made, through copies and into fusions."""
        instruction = place.instruction
        if instruction.opcode in _SAME_VALUE:
            return self._source(place.operand(0))
        if instruction.opcode == "copy-start":
            return self._source(place.operand(0))
        if instruction.opcode == "parameter" and place.outer:
            return self._source(place.outer[int(instruction.inner)])
        if instruction.opcode == "fusion":
            return self._source(self._within(place))
        if instruction.opcode == "get-tuple-element":
            whole = self._source(place.operand(0))
            if whole.instruction.opcode == "tuple":
                return self._source(whole.operand(instruction.number("index")))
        return place

    def _within(self, place: Place) -> Place:
        fused = self._module.computations[place.instruction.called("calls") or ""]
        operands = tuple(place.operand(index) for index in range(len(place.instruction.operands)))
        return Place(fused, fused.root, operands)


def _element(place: Place) -> int | None:
    """Return which element of the loop state this is, None if it is a computed value."""
    instruction = place.instruction
    if instruction.opcode != "get-tuple-element" or place.operand(0).instruction.opcode != "parameter":
        return None
    return instruction.number("index")
