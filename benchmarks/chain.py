"""Count the files and lines that one online DAR update goes through: a measure of how long the main path is to read.

    python benchmarks/chain.py [CHECKOUT]

A step of the quickstart is run with a profiler, and every file of the package whose code ran is counted whole. The
model is left out, since any decoder would do, as are settings, screen, logs and reports, which a reader may skip.
`CHECKOUT` is another checkout of this project to count, with its package either in today's layout or the former one.
"""

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = ("models", "settings", "config", "terminal", "runlog", "reporting", "checkpoints", "hosts", "data", "tokens")
# Where the same modules were before they moved into rooms.
SKIPPED_FILES = (
    "config.py",
    "console.py",
    "interrupts.py",
    "errors.py",
    "timeline.py",
    "screen.py",
    "visible.py",
    "disk.py",
    "json_text.py",
    "settings.py",
    "yaml_settings.py",
    "new_file.py",
)
JUDGING = ("judging", "chat")


class Trace:
    """The files of a package whose functions run while `active`, in the order of their first call."""

    def __init__(self, package: Path) -> None:
        self.package, self.active = package, False
        self.files: dict[Path, None] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if self.active and event == "call":
            self._record(frame.f_code)

    def _record(self, code: CodeType) -> None:
        path = Path(code.co_filename)
        # A module's or a class's own body runs where it is imported.
        if path.is_relative_to(self.package) and not code.co_name.startswith("<module"):
            self.files[path.relative_to(self.package)] = None


def chain(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the files of a step without the judge's, and the judge's."""
    trace = Trace(root / "dar_jax")
    _run(root, trace)
    counted = [path for path in trace.files if path.parts[0] not in (*SKIPPED, *SKIPPED_FILES)]
    judge = [path for path in counted if path.parts[0] in JUDGING]
    return [path for path in counted if path not in judge], judge


def _run(root: Path, trace: Trace) -> None:
    sys.path.insert(0, str(root))
    try:
        from dar_jax import training as spine
        from dar_jax.config.config_file import read_config
    except ImportError:
        from dar_jax import train as spine
        from dar_jax.config_file import read_config
    step = spine.Run.step

    def traced(run: Any) -> None:
        trace.active = True
        step(run)
        trace.active = False

    spine.Run.step = traced
    sys.setprofile(trace)
    threading.setprofile(trace)
    overrides = ["steps=1", "evaluation=null", "display.mode=quiet", "judge.name=scripted"]
    with tempfile.TemporaryDirectory() as folder:
        spine.train(read_config(root / "configs" / "quickstart.yaml", overrides), Path(folder) / "run")
    sys.setprofile(None)
    threading.setprofile(None)


def _lines(root: Path, paths: list[Path]) -> Iterator[tuple[int, Path]]:
    for path in paths:
        yield len((root / "dar_jax" / path).read_text().splitlines()), path


def main() -> None:
    """Print each file with its lines, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?", default=ROOT)
    root = parser.parse_args().checkout.resolve()
    own, judge = chain(root)
    for title, paths in (("without the judge", own), ("the judge", judge), ("all", [*own, *judge])):
        rows = list(_lines(root, paths))
        if title != "all":
            print("\n".join(f"{lines:6} {path}" for lines, path in rows))
        print(f"{sum(lines for lines, _ in rows):6} lines in {len(rows)} files: {title}\n")


if __name__ == "__main__":
    main()
