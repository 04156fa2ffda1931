"""Trip counts of the loops in a compiled program.

XLA's `cost_analysis` counts the body of a loop once. The CPU compiler writes the trip count into the text
(`known_trip_count`). The TPU compiler (libtpu 0.0.42 to 0.0.50) does not, so it is derived from the loop's start, step
and limit.
"""

import math
import re
from dataclasses import dataclass

from dar_jax.planning.hlo_costs.hlo_module import Computation, Instruction, Module

_KNOWN = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_SAME_VALUE = ("copy", "bitcast", "convert", "reshape", "copy-done", "optimization-barrier")


@dataclass(frozen=True)
class Trips:
    """The trip count of a loop; an upper bound if not `exact`."""

    count: int
    exact: bool = True


@dataclass(frozen=True)
class Value:
    """An instruction in its computation. Inside a fusion, `outer` are the fusion's operands: its parameters' values."""

    computation: Computation
    name: str
    outer: "tuple[Value, ...]" = ()

    @property
    def instruction(self) -> Instruction:
        """The instruction that computes this value."""
        return self.computation.instructions[self.name]

    def operand(self, index: int) -> "Value":
        """Return an operand of the instruction."""
        return Value(self.computation, self.instruction.operands[index], self.outer)


class Loops:
    """The loops of a module."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._loop_of_body = {
            loop.called("body"): Value(computation, loop.name)
            for computation in module.computations.values()
            for loop in computation.instructions.values()
            if loop.opcode == "while"
        }

    def trips(self, computation: Computation, loop: Instruction) -> Trips | None:
        """Return the trip count of a `while`, or None if it cannot be derived from the text."""
        if known := _KNOWN.search(loop.attributes):
            return Trips(int(known[1]))
        condition = self._module.computations[loop.called("condition") or ""]
        parts = self._conjuncts(Value(condition, condition.root))
        bounds = [bound for part in parts if (bound := self._bound(part, Value(computation, loop.name))) is not None]
        return Trips(min(bounds), exact=len(parts) == 1) if bounds else None

    def _conjuncts(self, value: Value) -> list[Value]:
        value = self._source(value)
        if value.instruction.opcode != "and":
            return [value]
        return [part for index in (0, 1) for part in self._conjuncts(value.operand(index))]

    def _bound(self, value: Value, loop: Value) -> int | None:
        """Return the trip count that the condition `counter < limit` implies, or None."""
        if value.instruction.opcode != "compare":
            return None
        sides = [self._source(value.operand(index)) for index in (0, 1)]
        counter, limit = _state_index(sides[0]), self._constant(sides[1], loop)
        if counter is None or limit is None:
            return None
        start = self._constant(self._initial(loop, counter), loop)
        step = self._step(loop, counter)
        if start is None or not step:
            return None
        distance = (limit - start) * (1 if step > 0 else -1)
        closed = "direction=LE" in value.instruction.attributes or "direction=GE" in value.instruction.attributes
        return max(0, math.ceil((distance + closed) / abs(step)))

    def _constant(self, value: Value, loop: Value) -> int | None:
        """Return the constant behind a value, or None. Loop state that no trip changes has its initial value."""
        value = self._source(value)
        if value.instruction.opcode == "constant":
            return int(value.instruction.inner) if re.fullmatch(r"-?\d+", value.instruction.inner) else None
        index = _state_index(value)
        if index is None:
            return None
        called = (loop.instruction.called("condition"), loop.instruction.called("body"))
        enclosing = loop if value.computation.name in called else self._loop_of_body.get(value.computation.name)
        if enclosing is None or not self._unchanged(enclosing, index):
            return None
        return self._constant(self._initial(enclosing, index), enclosing)

    def _step(self, loop: Value, index: int) -> int | None:
        """Return the constant that a trip adds to an element of the loop state, or None."""
        last = self._source(self._after_trip(loop, index))
        if last.instruction.opcode != "add":
            return None
        sides = [self._source(last.operand(side)) for side in (0, 1)]
        for one, other in (sides, sides[::-1]):
            if _state_index(one) == index and other.instruction.opcode == "constant":
                return int(other.instruction.inner)
        return None

    def _unchanged(self, loop: Value, index: int) -> bool:
        return _state_index(self._source(self._after_trip(loop, index))) == index

    def _after_trip(self, loop: Value, index: int) -> Value:
        """Return the value of an element of the loop state after a trip."""
        body = self._module.computations[loop.instruction.called("body") or ""]
        return self._tuple_element(Value(body, body.root), index)

    def _initial(self, loop: Value, index: int) -> Value:
        """Return the value of an element of the loop state before the first trip."""
        return self._tuple_element(loop.operand(0), index)

    def _tuple_element(self, value: Value, index: int) -> Value:
        value = self._source(value)
        return value.operand(index) if value.instruction.opcode == "tuple" else value

    def _source(self, value: Value) -> Value:
        """Return the value that a value copies, followed through copies, tuples and fusions."""
        instruction = value.instruction
        if instruction.opcode in _SAME_VALUE:
            return self._source(value.operand(0))
        if instruction.opcode == "copy-start":
            return self._source(value.operand(0))
        if instruction.opcode == "parameter" and value.outer:
            return self._source(value.outer[int(instruction.inner)])
        if instruction.opcode == "fusion":
            return self._source(self._fusion_root(value))
        if instruction.opcode == "get-tuple-element":
            whole = self._source(value.operand(0))
            if whole.instruction.opcode == "tuple":
                return self._source(whole.operand(instruction.number("index")))
        return value

    def _fusion_root(self, value: Value) -> Value:
        fused = self._module.computations[value.instruction.called("calls") or ""]
        operands = tuple(value.operand(index) for index in range(len(value.instruction.operands)))
        return Value(fused, fused.root, operands)


def _state_index(value: Value) -> int | None:
    """Return the index of the loop state's element that this value is, None if it is computed."""
    instruction = value.instruction
    if instruction.opcode != "get-tuple-element" or value.operand(0).instruction.opcode != "parameter":
        return None
    return instruction.number("index")
