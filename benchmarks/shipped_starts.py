"""Train the policies in `assets/` again and compare their scores with those of the shipped ones.

    python benchmarks/shipped_starts.py --output benchmarks/results/shipped_starts.json

A row a policy: the judge's mean reward in the first step of its config, from the shipped weights and from weights made
by its `_sft` config now; they should differ by less than 0.6 of 10, as other compilers round otherwise. About ten
minutes a policy on 2 cores.
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

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = {"minitldr": ("quickstart", "minitldr"), "docstrings": ("docstrings", "overlap")}
TOLERANCE = 0.6


def dar_jax(*arguments: str) -> None:
    """Run a command of the package at the root of the checkout."""
    subprocess.run([sys.executable, "-m", "dar_jax", *arguments], cwd=ROOT, check=True)


def first_reward(name: str, run: Path, *overrides: str) -> float:
    """Return the mean reward of the first step."""
    config, scorer = CONFIGS[name]
    judge = f"judge={{name: scripted, scorer: {scorer}}}"
    settings = [judge, "evaluation=null", "steps=1", "mesh.devices=1", "display.mode=quiet", *overrides]
    dar_jax("train", f"configs/{config}.yaml", *settings, "--run-dir", str(run))
    return float(RunFolder(run).read("metrics")[0]["rewards/mean"])


def measure(name: str, folder: Path) -> dict[str, float | str | bool]:
    """Train one policy again and return both scores."""
    began = time.perf_counter()
    dar_jax("train", f"configs/{name}_sft.yaml", "mesh.devices=1", "display.mode=quiet", "--run-dir", f"{folder}/sft")
    seconds = time.perf_counter() - began
    dar_jax("export", f"{folder}/sft", "--output", f"{folder}/policy")
    shipped = first_reward(name, folder / "shipped")
    again = first_reward(name, folder / "again", f"policy.path={folder}/policy")
    same = abs(shipped - again) < TOLERANCE
    return {"policy": name, "shipped": shipped, "again": again, "same": same, "training_s": round(seconds, 1)}


def main() -> None:
    """Print the rows, and write them if asked; exit with 1 if a policy differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = []
    for name in options.policies:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(name, Path(folder)))
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    text = json.dumps({"command": " ".join(["python", *sys.argv]), "machine": machine, "rows": rows}, indent=1)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")
    sys.exit(not all(row["same"] for row in rows))


if __name__ == "__main__":
    main()
