"""What a chip sends over the interconnect, by the algorithms that send least: rings.

Of n chips, each sends (n - 1) / n of the whole to gather or to scatter it, twice that to reduce it everywhere.
"""

import math
import re
from collections.abc import Callable, Mapping

from dar_jax.planning.hlo import Computation, Instruction

_LISTED = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_COUNTED = re.compile(r"replica_groups=\[(\d+),(\d+)\]")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}")
_SEEN_THROUGH = ("bitcast", "copy", "reshape")


def _share(count: int) -> float:
    return (count - 1) / count if count else 1.0


# Bytes sent of (bytes going in, bytes coming out, chips of a group); an unknown group is taken to be large.
_KINDS: Mapping[str, Callable[[float, float, int], float]] = {
    "all-gather": lambda _, out, count: out * _share(count),
    "all-reduce": lambda into, _, count: 2 * into * _share(count),
    "reduce-scatter": lambda into, _, count: into * _share(count),
    "all-to-all": lambda into, _, count: into * _share(count),
    "ragged-all-to-all": lambda into, _, count: into * _share(count),
    "collective-permute": lambda into, _, count: into,
}


def sent(computation: Computation, instruction: Instruction) -> tuple[str, float]:
    """Return the kind of a collective and the bytes a chip sends for it; 0 for any other instruction."""
    kind = instruction.opcode.removesuffix("-start")
    if kind not in _KINDS or _goes_on(computation, instruction):
        return kind, 0.0
    kind = _real_kind(computation, instruction, kind)
    into = sum(shape.nbytes for name in instruction.operands for shape in computation.instructions[name].shapes)
    made = sum(shape.nbytes for shape in instruction.shapes)
    if instruction.opcode.endswith("-start"):
        made -= into  # the start of an asynchronous one gives its operands back beside the result
    return kind, _KINDS[kind](into, made, group_size(instruction.attributes))


def group_size(attributes: str) -> int:
    """Read how many chips take part in one group; 0 where it is not stated (all of them)."""
    if listed := _LISTED.search(attributes):
        return len(listed[1].split(","))
    if counted := _COUNTED.search(attributes):
        return int(counted[2])
    if mesh := _MESH.search(attributes):
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh[1])}
        return math.prod(sizes[name] for name in re.findall(r"'(\w+)'", mesh[2]))
    return 0


def _goes_on(computation: Computation, instruction: Instruction) -> bool:
    """Whether this is a later piece of a collective that the TPU spreads over several fusions: one piece starts it."""
    others = computation.instructions.values()
    return "chain_id=" in instruction.attributes and not any(
        "AsyncCollectiveStart" in each.attributes for each in others
    )


def _real_kind(computation: Computation, instruction: Instruction, kind: str) -> str:
    """The TPU's compiler writes a reduce-scatter as an all-reduce of which a fusion keeps a slice."""
    if kind != "all-reduce":
        return kind
    users = computation.users(instruction.name)
    while len(users) == 1 and users[0].opcode in _SEEN_THROUGH:
        users = computation.users(users[0].name)
    fused = any(each.opcode == "parameter" for each in computation.instructions.values())
    return "reduce-scatter" if fused and users and all(each.opcode == "dynamic-slice" for each in users) else kind
