"""What becomes of runs that are killed, signalled, damaged, filled, flooded and set wrongly, in one table. No network.

    python benchmarks/reliability.py --output benchmarks/results/reliability.json

A nano policy is trained against a judge behind a real socket. What counts as held: a run that was stopped goes on to
the bit; damage is refused in a line that names it, or does no harm; every answer that was paid for is filed once; no
failed call becomes a number; no command ends in a traceback. Kinds of trials:

    kills           SIGKILL at start-up, sampling, judging, weighing, each update, saving and evaluation
    kills, two processes   the same on one of two hosts; the other has to leave by itself, with status 6
    signals         SIGTERM, SIGINT and SIGHUP in the same phases
    damage          each file of a checkpoint, the ledger, the logs and config.yaml missing, empty, cut, flipped
    full disk       file systems that are too small
    hostile replies completions with odd usage, content and log-probs, bodies that are none, faults of the transport
    settings fuzz   nonsense for every setting
    soak            thousands of steps while a tenth of the judgements fails

`--small` takes a share of each. `--only NAMES` runs some kinds, whose rows take the place of those in the output.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # tests/ holds the nano policy

import jax  # noqa: E402
from reliability_trials.damage import damage  # noqa: E402
from reliability_trials.full_disk import full_disk  # noqa: E402
from reliability_trials.outcomes import Outcome, summary, table  # noqa: E402
from reliability_trials.replies import replies  # noqa: E402
from reliability_trials.settings_fuzz import settings_fuzz  # noqa: E402
from reliability_trials.soak import soak  # noqa: E402
from reliability_trials.stops import kills, signals, two_processes  # noqa: E402
from reliability_trials.workshop import Workshop  # noqa: E402

from dar_jax import __version__  # noqa: E402
from dar_jax.chat.scripted.server import ServerSettings, serve  # noqa: E402

Trials = dict[str, Callable[[], Iterator[Outcome]]]


def trials(workshop: Workshop, *, small: bool) -> Trials:
    """Return the kinds of trials, the quick ones first."""
    return {
        "settings": lambda: settings_fuzz(60 if small else 3),
        "replies": lambda: replies(workshop, 5 if small else 1),
        "kills": lambda: kills(workshop, 3 if small else 50),
        "signals": lambda: signals(workshop, 3 if small else 21),
        "damage": lambda: damage(workshop, 0.04 if small else 1.0),
        "disk": lambda: full_disk(workshop, (256,)) if small else full_disk(workshop),
        "two": lambda: two_processes(workshop, 1 if small else 10),
        "soak": lambda: soak(workshop, 60 if small else 2000),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(trials(None, small=True)))  # type: ignore[arg-type]
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, serve(ServerSettings(port=0, latency_s=0.01)) as judge:
        folder = Path(name)
        jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
        workshop = Workshop(folder, judge.openai_url)
        rows, lost = [], 0
        for kind, run in trials(workshop, small=options.small).items():
            if options.only and kind not in options.only:
                continue
            began, outcomes = time.perf_counter(), []
            for outcome in run():
                outcomes.append(outcome)
                if not outcome.held:
                    print(f"lost: {outcome.kind}: {outcome.case}: {outcome.detail}", file=sys.stderr, flush=True)
            lost += sum(not outcome.held for outcome in outcomes)
            of_kind = summary(outcomes, began)
            print(table(of_kind), flush=True)
            rows += of_kind
            if options.output:
                write(options.output, of_kind)
    print(table(rows))
    return bool(lost)


def write(output: Path, rows: list[dict[str, object]]) -> None:
    """Write the rows of a kind, each with the command that made it, in place of earlier rows of that kind."""
    output.parent.mkdir(parents=True, exist_ok=True)
    written = json.loads(output.read_text())["rows"] if output.exists() else []
    kinds = {row["kind"] for row in rows}
    command = " ".join(["python", *sys.argv])
    rows = [*(row for row in written if row["kind"] not in kinds), *({**row, "command": command} for row in rows)]
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, jax {jax.__version__}"
    report = {"version": __version__, "machine": machine, "rows": rows}
    output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
