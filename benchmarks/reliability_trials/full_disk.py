"""A disk that fills up: one line that names the folder, and with room again the run goes on to the bit."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from dar_jax.runlog import RunFolder
from reliability_trials.outcomes import Outcome
from reliability_trials.workshop import Workshop, difference, plain_ending

SIZES_KB = (64, 160, 256, 384, 512, 640, 768, 1024)


def full_disk(workshop: Workshop, sizes_kb: tuple[int, ...] = SIZES_KB) -> Iterator[Outcome]:
    """Run on file systems that are too small; none where this user may mount none."""
    for size in sizes_kb:
        disk = workshop.folder / f"disk-{size}"
        disk.mkdir()
        if _mount(f"size={size}k", disk):
            return
        try:
            wrong, filled = _filled(workshop, disk / "run", disk)
        finally:
            subprocess.run(["umount", str(disk)], check=True)
        figures = {"full": float(filled)}
        yield Outcome(kind="full disk", case=f"{size} KB", held=not wrong, detail=wrong, figures=figures)


def _filled(workshop: Workshop, run: Path, disk: Path) -> tuple[str, bool]:
    done = workshop.run(workshop.start(run))
    if done.returncode:
        if wrong := plain_ending(done.returncode, done.stderr):
            return wrong, True
        if "full" not in done.stderr and "space" not in done.stderr:
            return f"status {done.returncode}, without a word of the disk: {done.stderr.strip()[-200:]}", True
        if _mount("remount,size=64m", disk):
            return "the disk could not be made larger", True
        again = workshop.run(workshop.start(run))
        if again.returncode:
            return f"with room again status {again.returncode}: {again.stderr.strip()[-200:]}", True
    return difference(RunFolder(run), workshop.unharmed), done.returncode != 0


def _mount(options: str, disk: Path) -> int:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    return subprocess.run(command, capture_output=True, check=False).returncode
