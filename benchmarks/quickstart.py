"""What the newcomer's run reaches: the quickstart, as it is, under several seeds.

    python benchmarks/quickstart.py --seeds 0 1 2 --output benchmarks/results/quickstart.json

A row a seed: mean reward of the starting policy and of DAR's on the held-out prompts, wins, ties and losses of
the one over the other by the judge, completion length, KL to the reference at the last step, judgements and how
many of them were billed (a repeat is free), wall seconds of the whole command (compilation and evaluation included).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dar_jax.runlog import RunFolder

COLUMNS = ("start_reward", "reward", "win_rate", "wins", "ties", "losses", "start_mean_length", "mean_length")


def measure(config: str, seed: int, folder: Path) -> dict[str, float]:
    run = folder / f"seed-{seed}"
    command = [sys.executable, "-m", "dar_jax", "train", config, f"seed={seed}", "display.mode=quiet"]
    began = time.perf_counter()
    subprocess.run([*command, "--run-dir", str(run)], check=True)
    seconds = time.perf_counter() - began
    outcome = RunFolder(run).read("evaluations")[-1]
    metrics = RunFolder(run).read("metrics")
    return {
        "seed": seed,
        **{name: outcome[f"eval/{name}"] for name in COLUMNS},
        "kl_to_reference": metrics[-1]["objective/kl"],
        "judgements": sum(row["judge/ok"] for row in metrics),
        "annotations": sum(row["judge/billed_calls"] for row in metrics),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/quickstart.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(options.config, seed, Path(folder)) for seed in options.seeds]
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    report = {"command": " ".join(["python", *sys.argv]), "machine": machine, "rows": rows}
    text = json.dumps(report, indent=1)
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
