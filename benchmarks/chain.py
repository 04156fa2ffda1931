"""Count the files and lines that one online DAR update goes through: how much there is to read of the main path.

    python benchmarks/chain.py [CHECKOUT]

One step of the quickstart runs under a profiler, and every file of the package whose code ran is counted whole. The
rooms in SKIPPED are left out, with all that they call: any decoder would do, and a reader may skip settings, screen,
logs, reports, checkpoints and what only several hosts need. `CHECKOUT` is another checkout to count, also one of
version 0.1, whose modules were not in rooms yet.
"""

import argparse
import importlib
import os
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = frozenset(
    {"models", "settings", "config", "terminal", "runlog", "reporting", "checkpoints", "hosts", "data", "tokens"}
)
# Reports among other files, and modules of version 0.1 that are in those rooms now.
SKIPPED_FILES = frozenset(
    {
        "reporter.py",
        "recurring.py",
        "timeline.py",
        "errors.py",
        "console.py",
        "interrupts.py",
        "screen.py",
        "visible.py",
    }
    | {"visible.py", "config.py", "settings.py", "yaml_settings.py", "json_text.py", "disk.py", "new_file.py"}
)
JUDGING = ("judging", "chat")


class Trace:
    """Record the files of a package whose functions run while `active`, in the order of their first call."""

    def __init__(self, package: Path) -> None:
        self.package, self.active = package, False
        self.files: dict[Path, None] = {}
        self._local = threading.local()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Handle one event of `sys.setprofile`."""
        path = Path(frame.f_code.co_filename)
        if event not in ("call", "return") or not path.is_relative_to(self.package):
            return
        inside = path.relative_to(self.package)
        depth = getattr(self._local, "depth", 0)
        if inside.parts[0] in SKIPPED or inside.name in SKIPPED_FILES:
            self._local.depth = max(0, depth + (1 if event == "call" else -1))
        elif self.active and not depth and not frame.f_code.co_name.startswith("<module"):
            self.files[inside] = None


def chain(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the files of a step without the judge's, and the judge's."""
    trace = Trace(root / "dar_jax")
    _run(root, trace)
    judge = [path for path in trace.files if path.parts[0] in JUDGING]
    return [path for path in trace.files if path not in judge], judge


def _run(root: Path, trace: Trace) -> None:
    sys.path.insert(0, str(root))
    os.chdir(root)
    rooms = (root / "dar_jax" / "training.py").exists()
    spine = importlib.import_module("dar_jax.training" if rooms else "dar_jax.train")
    configs = importlib.import_module("dar_jax.config.config_file" if rooms else "dar_jax.config_file")
    step = spine.Run.step

    def traced(run: Any) -> None:
        trace.active = True
        step(run)
        trace.active = False

    spine.Run.step = traced
    sys.setprofile(trace)
    threading.setprofile(trace)
    overrides = ["steps=1", "evaluation=null", "display.mode=quiet"]
    with tempfile.TemporaryDirectory() as folder:
        spine.train(configs.read_config(root / "configs" / "quickstart.yaml", overrides), Path(folder) / "run")
    sys.setprofile(None)
    threading.setprofile(None)


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def main() -> None:
    """Print each file with its lines, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?", default=ROOT)
    root = parser.parse_args().checkout.resolve()
    own, judge = chain(root)
    for title, paths in (("without the judge", own), ("the judge", judge)):
        for path in paths:
            print(f"{_lines(root / 'dar_jax' / path):6} {path}")
        print(f"{sum(_lines(root / 'dar_jax' / path) for path in paths):6} lines in {len(paths)} files: {title}\n")
    print(f"{sum(_lines(root / 'dar_jax' / path) for path in own + judge):6} lines in {len(own + judge)} files: all")


if __name__ == "__main__":
    main()
