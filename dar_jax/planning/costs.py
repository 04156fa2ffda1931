"""What a compiled program does on one chip: FLOPs, HBM traffic and bytes over the interconnect, loops counted as often
as they run.

FLOPs are those of matrix products and convolutions (which is what the TPU's compiler makes of most products): the
matrix unit's work, the part that 6ND speaks of. Bytes are what instructions read from and write to HBM; what the
compiler keeps in VMEM costs none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dar_jax.planning.collectives import sent
from dar_jax.planning.hlo import Computation, Instruction, Module, parse
from dar_jax.planning.loops import Loops, Trips
from dar_jax.planning.products import flops
from dar_jax.planning.traffic import Traffic


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Work of one chip: bytes are those of HBM, `collective_bytes` what it sends, by kind. `kernels` counts the runs of
    custom kernels that do not state their FLOPs: these are missing.
    """

    flops: float = 0.0
    read_bytes: float = 0.0
    written_bytes: float = 0.0
    collective_bytes: Mapping[str, float] = field(default_factory=dict)
    kernels: float = 0.0

    @property
    def hbm_bytes(self) -> float:
        """All HBM traffic."""
        return self.read_bytes + self.written_bytes

    def __add__(self, other: "Costs") -> "Costs":
        mine, theirs = self.collective_bytes, other.collective_bytes
        return Costs(
            flops=self.flops + other.flops,
            read_bytes=self.read_bytes + other.read_bytes,
            written_bytes=self.written_bytes + other.written_bytes,
            collective_bytes={kind: mine.get(kind, 0) + theirs.get(kind, 0) for kind in sorted({*mine, *theirs})},
            kernels=self.kernels + other.kernels,
        )

    def times(self, count: float) -> "Costs":
        """Return the costs of `count` executions."""
        return Costs(
            flops=self.flops * count,
            read_bytes=self.read_bytes * count,
            written_bytes=self.written_bytes * count,
            collective_bytes={kind: size * count for kind, size in self.collective_bytes.items()},
            kernels=self.kernels * count,
        )


@dataclass(frozen=True, kw_only=True)
class Program:
    """The work of a program, and of one trip of the loop that may end sooner than it must (`open_trips` at most).

    `unknown_loops` are loops whose text does not say how often they run: counted once.
    """

    total: Costs
    open_body: Costs | None = None
    open_trips: int = 0
    unknown_loops: tuple[str, ...] = ()


def program_costs(text: str) -> Program:
    """Count the work of compiled HLO text."""
    return _Counting(parse(text)).program()


class _Counting:
    def __init__(self, module: Module) -> None:
        self._module, self._loops, self._traffic = module, Loops(module), Traffic(module)
        self._known: dict[str, Costs] = {}
        self._open: tuple[Costs, int] | None = None
        self._unknown: list[str] = []

    def program(self) -> Program:
        total = self._computation(self._module.entry)
        body, trips = self._open or (None, 0)
        return Program(total=total, open_body=body, open_trips=trips, unknown_loops=tuple(self._unknown))

    def _computation(self, name: str) -> Costs:
        if name not in self._known:
            computation = self._module.computations[name]
            parts = (self._instruction(computation, each) for each in computation.instructions.values())
            self._known[name] = sum(parts, Costs())
        return self._known[name]

    def _instruction(self, computation: Computation, instruction: Instruction) -> Costs:
        if instruction.opcode == "while":
            return self._loop(computation, instruction)
        if instruction.opcode == "conditional":
            return self._dearest(instruction)
        if instruction.opcode in ("call", "async-start"):
            return self._computation(instruction.called("to_apply") or instruction.called("calls") or "")
        moved = self._traffic.of(computation, instruction)
        arithmetic = self._arithmetic(computation, instruction)
        return replace(arithmetic, read_bytes=moved.read, written_bytes=moved.written)

    def _arithmetic(self, computation: Computation, instruction: Instruction) -> Costs:
        if instruction.opcode == "fusion":
            fused = self._module.computations[instruction.called("calls") or ""]
            return sum((self._arithmetic(fused, each) for each in fused.instructions.values()), Costs())
        kind, size = sent(computation, instruction)
        found = flops(computation, instruction)
        return Costs(
            flops=found,
            collective_bytes={kind: size} if size else {},
            kernels=float(not found and 'custom_call_target="tpu_custom_call"' in instruction.attributes),
        )

    def _loop(self, computation: Computation, loop: Instruction) -> Costs:
        trips = self._loops.trips(computation, loop)
        once = self._computation(loop.called("body") or "") + self._computation(loop.called("condition") or "")
        if trips is None:
            self._unknown.append(loop.name)
            trips = Trips(1)
        if not trips.exact:
            self._open = (once, trips.count)
        return once.times(trips.count)

    def _dearest(self, instruction: Instruction) -> Costs:
        """Return the branch with the most traffic, since which one runs is known only at run time."""
        branches = [self._computation(name) for name in instruction.branches]
        return max(branches, key=lambda each: each.hbm_bytes, default=Costs())
