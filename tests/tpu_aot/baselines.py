"""What small runs take, as it was last time: exact of one version of the compiler, so kept for each.

python -m tests.tpu_aot.baselines        measures with the libtpu that is installed, and writes baselines.json
"""

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dar_jax.planning import make_plan, topology
from dar_jax.planning.report import to_plain
from tests.tpu_aot.small import small_run

FILE = Path(__file__).parent / "baselines.json"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "dar": ("v5e:2x4", {}),
    "lora": ("v5e:2x2", {"lora": True, "mesh": {}}),
    "sft": ("v6e:2x2", {"algorithm": {"name": "sft"}, "judge": None, "learning": {"updates_per_batch": 1}}),
}


def measure(name: str) -> dict[str, dict[str, float]]:
    """Plan a case; bytes and FLOPs of a chip, by program."""
    where, settings = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        plan = to_plain(make_plan(small_run(Path(folder), **settings), topology(where), lambda _: None))
    return {program["name"]: figures(program) for program in plan["programs"]}


def figures(program: dict[str, Any]) -> dict[str, float]:
    """Pick the figures of a program that one compiler always gives alike."""
    taken = {name: program["bytes"][name] for name in ("arguments", "temporaries", "total")}
    work = {name: program[name] for name in ("flops", "read_bytes", "written_bytes")}
    return taken | work | {"collective_bytes": sum(program["collective_bytes"].values())}


def kept() -> dict[str, dict[str, Any]]:
    """Read the baselines of every libtpu they were made with."""
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text())
    return found


if __name__ == "__main__":
    measured = {name: measure(name) for name in CASES}
    FILE.write_text(json.dumps(kept() | {version("libtpu"): measured}, indent=1, sort_keys=True) + "\n")
