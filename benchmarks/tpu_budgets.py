"""What runs of real size take on a TPU slice, by the TPU's own compiler, against budgets and against last time.

    python benchmarks/tpu_budgets.py                     compare with benchmarks/results/tpu_budgets.json, within 1 %
    python benchmarks/tpu_budgets.py --write             keep what was found
    python benchmarks/tpu_budgets.py --only qwen2-7b     one of the cases

Needs no TPU: `pip install 'dar-jax[tpu]'`, 10 GB of memory, half an hour on 2 cores. The cases are whole plans of
the paper's setting (configs/pods/tldr.yaml); the marks are single programs in the shapes in which google-tunix's were
compiled; the attentions are single programs by XLA and by the splash kernel, for short and for long prompts.

A budget that is not met or a figure that has moved is told, and the exit status is 1. Figures are exact of one version
of libtpu; those of another are not compared. `--peer COMMAND` (an environment's python and the script that compiles the
peer's programs) compiles the peer's beside ours and keeps its rows.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from dar_jax.config.config_file import read_config
from dar_jax.planning import make_plan, topology
from dar_jax.planning.report import to_plain

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "tpu_budgets.json"
TLDR = ROOT / "configs" / "pods" / "tldr.yaml"
GIB = 2**30

# name: model, slice, settings
CASES: dict[str, tuple[str, str, list[str]]] = {
    "qwen2-7b": ("qwen2-7b", "v5e:2x4", []),
    "qwen2.5-72b": ("qwen2.5-72b", "v5p:4x4x4", ["mesh.tensor=4", "learning.micro_batch_size=16"]),
    "qwen2-1.5b": ("qwen2-1.5b", "v5e:2x2", ["mesh.tensor=1"]),
}
# name: stage, settings, the peer's arguments for the same shapes
MARKS: dict[str, tuple[str, list[str], str]] = {
    "update": ("regress", ["learning.updates_per_batch=128"], "train --micro 4 --param f32"),
    "update, accumulated": ("regress", ["learning.updates_per_batch=1"], "train --micro 4 --param f32 --accum 128"),
    "recall": ("recall", [], "ref --micro 4"),
    "decode": ("sample", ["prompts_per_step=64"], "decode --remat NONE --batch 256 --cache 1024"),
}
# name: stage, settings; for each kind of attention
SHORT = ["learning.updates_per_batch=128", "learning.micro_batch_size=4"]
LONG = [*SHORT, "sampling.max_prompt_length=7680"]
ATTENTIONS: dict[str, tuple[str, list[str]]] = {
    "update, 512 + 512 tokens": ("regress", SHORT),
    "update, 7680 + 512 tokens": ("regress", LONG),
    "recall, 7680 + 512 tokens": ("recall", [*LONG, "prompts_per_step=1", "learning.updates_per_batch=1"]),
}
# GiB of a chip with nothing beside: what the peer and a plain hand-written scan were to be beaten by.
MARK_LIMITS = {"update": 7.4, "update, accumulated": 10.0, "recall": 2.5, "decode": 5.5}


def plan(model: str, where: str, settings: list[str], *only: str) -> dict[str, Any]:
    config = read_config(TLDR, [f"policy.path={ROOT}/configs/pods/models/{model}", *settings])
    options: dict[str, Any] = {"only": only} if only else {}
    return to_plain(make_plan(config, topology(where), lambda text: print(f"  {text}", file=sys.stderr), **options))


def cases(only: str | None) -> dict[str, dict[str, Any]]:
    found = {}
    for name, (model, where, settings) in CASES.items():
        if only in (None, name):
            print(f"{name} on {where}", file=sys.stderr)
            found[name] = plan(model, where, settings)
    return found


def marks(only: str | None) -> dict[str, dict[str, Any]]:
    found = {}
    for name, (stage, settings, _) in MARKS.items():
        if only in (None, name):
            print(f"mark: {name}", file=sys.stderr)
            settings = ["learning.micro_batch_size=4", "mesh.tensor=2", *settings]
            programs = plan("qwen2-7b", "v5e:2x4", settings, stage)["programs"]
            found[name] = next(each for each in programs if each["name"] != "prefill")
    return found


def attentions(only: str | None) -> dict[str, dict[str, Any]]:
    found = {}
    for name, (stage, settings) in ATTENTIONS.items() if only in (None, "attention") else ():
        for kernel in ("xla", "splash"):
            print(f"attention: {name}, {kernel}", file=sys.stderr)
            (each,) = plan("qwen2-7b", "v5e:2x4", [*settings, f"learning.attention={kernel}"], stage)["programs"]
            found[f"{name}, {kernel}"] = each
    return found


def peers(command: str, only: str | None) -> dict[str, dict[str, Any]]:
    environment = {**os.environ, "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    found = {}
    for name, (_, _, arguments) in MARKS.items():
        if only in (None, name):
            print(f"peer: {name}", file=sys.stderr)
            words = [*shlex.split(command), *shlex.split(arguments)]
            done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
            found[name] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def budgets(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give every budget as a row: what, the value found, the most it may be."""
    for case, found in report["cases"].items():
        limit = 14 * GIB if case == "qwen2-7b" else found["chip"]["hbm_bytes"]
        programs = {each["name"]: each for each in found["programs"]}
        for name, each in programs.items():
            beside = sum(each["resident_bytes"].values())
            yield row(f"{case}: {name}, GiB at the peak with residents", (peak(each) + beside) / GIB, limit / GIB)
            most = found["chip"]["hbm_bytes"] / GIB
            yield row(f"{case}: {name}, GiB set aside with residents", each["needed_bytes"] / GIB, most)
        if not all(each["flops"] is not None for each in programs.values()):
            continue
        yield row(f"{case}: regress, FLOPs of 6ND", programs["regress"]["flops_ratio"], 1.36)
        yield row(f"{case}: recall, FLOPs of 2ND", programs["recall"]["flops_ratio"], 1.05)
        decoding = next(each for each in programs.values() if each["open_loop"])
        read = decoding["open_loop"]["read_bytes"]
        least = found["held_bytes"]["decode_params"] + found["cache_bytes"]
        yield row(f"{case}: decode, bytes read a token of weights + cache", read / least, 1.15)
        beside = peak(decoding) - decoding["bytes"]["arguments"]
        yield row(f"{case}: decode, temporaries at the peak of the cache", beside / found["cache_bytes"], 0.05)
    if update := report["cases"].get("qwen2-7b"):
        regress = next(each for each in update["programs"] if each["name"] == "regress")
        yield row("qwen2-7b: regress, seconds to compile", min(regress["compile_s"], regress["compile_cpu_s"]), 120)
    for name, found in report["marks"].items():
        yield row(f"mark: {name}, GiB at the peak", peak(found) / GIB, MARK_LIMITS[name])


def peak(program: dict[str, Any]) -> int:
    """Most bytes of a chip in use at one time; of a program too large for it, what the compiler asked for."""
    if program["bytes"]:
        return int(program["bytes"]["peak"])
    return int(program["needed_bytes"] - sum(program["resident_bytes"].values()))


def row(what: str, value: float, limit: float) -> dict[str, Any]:
    return {"what": what, "value": round(value, 4), "limit": round(limit, 4), "met": value <= limit}


def moved(report: dict[str, Any], before: dict[str, Any]) -> Iterator[str]:
    """Name the figures that differ by more than 1 % from those of the same compiler."""
    if report["versions"] != before.get("versions"):
        yield f"not compared: kept of {before.get('versions')}, found with {report['versions']}"
        return
    was = dict(figures(before))
    for name, value in figures(report):
        if name in was and abs(value - was[name]) > 0.01 * abs(was[name]):
            yield f"{name}: {was[name]:.6g} -> {value:.6g}"


def figures(report: dict[str, Any]) -> Iterator[tuple[str, float]]:
    rows = [(case, each) for case, found in report["cases"].items() for each in found["programs"]]
    for case, each in [*rows, *report["marks"].items(), *report["attentions"].items()]:
        for name in ("needed_bytes", "flops", "read_bytes", "written_bytes"):
            if each[name] is not None:
                yield f"{case}: {each['name']}: {name}", each[name]


def _named(words: str) -> str:
    """Leave out where things lie on this machine."""
    return " ".join(Path(word).name if Path(word).is_absolute() else word for word in shlex.split(words))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*CASES, *MARKS, "attention"])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--peer", metavar="COMMAND")
    options = parser.parse_args()
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    report: dict[str, Any] = (kept if options.only else {}) | {
        "command": shlex.join(["python", *map(_named, sys.argv)]),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: metadata.version(name) for name in ("jax", "jaxlib", "libtpu")},
    }
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "marks": lambda: marks(options.only),
        "cases": lambda: cases(options.only),
        "attentions": lambda: attentions(options.only),
        "peer": lambda: peers(options.peer, options.only) if options.peer else {},
    }
    for name, found in sections.items():
        report[name] = report.get(name, {}) | found()
        if options.write:
            RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    report["budgets"] = list(budgets(report))
    for each in report["budgets"]:
        print(f"{'met ' if each['met'] else 'MISS'} {each['what']}: {each['value']:.2f}, at most {each['limit']:.2f}")
    changes = list(moved(report, kept)) if kept else []
    print(*changes, sep="\n")
    if options.write:
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")
        return 0
    return 1 if changes or not all(each["met"] for each in report["budgets"]) else 0


if __name__ == "__main__":
    sys.exit(main())
