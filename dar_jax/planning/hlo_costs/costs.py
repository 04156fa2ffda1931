"""FLOPs, HBM traffic and interconnect bytes of a compiled program on one chip, loop bodies times their trip counts.

FLOPs are those of matmuls and convolutions (which the TPU compiler makes of most matmuls): the work of the matrix unit,
comparable to 6ND. Bytes are HBM reads and writes; what the compiler keeps in VMEM costs none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dar_jax.planning.hlo_costs.hlo_module import Computation, Instruction, Module, parse
from dar_jax.planning.hlo_costs.instruction_costs import HbmTraffic, flops, sent
from dar_jax.planning.hlo_costs.trip_counts import Loops, Trips


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs on one chip: HBM bytes read and written, and bytes sent by kind of collective.

    `kernels` counts executions of custom kernels without a cost estimate, whose FLOPs are missing.
    """

    flops: float = 0.0
    read_bytes: float = 0.0
    written_bytes: float = 0.0
    collective_bytes: Mapping[str, float] = field(default_factory=dict)
    kernels: float = 0.0

    @property
    def hbm_bytes(self) -> float:
        """HBM bytes, read and written."""
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
class ProgramCosts:
    """The costs of a program, and of one trip of the loop that may end early (`open_trips` at most).

    `unknown_loops` are loops without a known trip count; they are counted once.
    """

    total: Costs
    open_body: Costs | None = None
    open_trips: int = 0
    unknown_loops: tuple[str, ...] = ()


def program_costs(text: str) -> ProgramCosts:
    """Return the costs of compiled HLO text."""
    return _Counter(parse(text)).program()


class _Counter:
    def __init__(self, module: Module) -> None:
        self._module, self._loops, self._traffic = module, Loops(module), HbmTraffic(module)
        self._by_computation: dict[str, Costs] = {}
        self._open: tuple[Costs, int] | None = None
        self._unknown: list[str] = []

    def program(self) -> ProgramCosts:
        total = self._computation(self._module.entry)
        body, trips = self._open or (None, 0)
        return ProgramCosts(total=total, open_body=body, open_trips=trips, unknown_loops=tuple(self._unknown))

    def _computation(self, name: str) -> Costs:
        if name not in self._by_computation:
            computation = self._module.computations[name]
            parts = (self._instruction(computation, each) for each in computation.instructions.values())
            self._by_computation[name] = sum(parts, Costs())
        return self._by_computation[name]

    def _instruction(self, computation: Computation, instruction: Instruction) -> Costs:
        if instruction.opcode == "while":
            return self._loop(computation, instruction)
        if instruction.opcode == "conditional":
            return self._costliest_branch(instruction)
        if instruction.opcode in ("call", "async-start"):
            return self._computation(instruction.called("to_apply") or instruction.called("calls") or "")
        moved = self._traffic.of(computation, instruction)
        work = self._arithmetic(computation, instruction)
        return replace(work, read_bytes=moved.read, written_bytes=moved.written)

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

    def _costliest_branch(self, instruction: Instruction) -> Costs:
        """Return the costs of the branch with the most traffic; which one runs is known only at run time."""
        branches = [self._computation(name) for name in instruction.branches]
        return max(branches, key=lambda each: each.hbm_bytes, default=Costs())
