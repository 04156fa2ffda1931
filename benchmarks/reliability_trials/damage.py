"""Damage to every file that a resume reads: it goes on to the bit, or is refused in a line that names what is wrong."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from dar_jax.runlog import RunFolder
from reliability_trials.commands import Commands
from reliability_trials.outcomes import Outcome
from reliability_trials.workshop import Workshop, difference, plain_ending

Harm = Callable[[Path, random.Random], None]


def _flip(file: Path, draw: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def _cut(file: Path, draw: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _empty(file: Path, draw: random.Random) -> None:
    file.write_bytes(b"")


def _append(content: bytes) -> Harm:
    def harm(file: Path, draw: random.Random) -> None:
        with file.open("ab") as opened:
            opened.write(content)

    return harm


HARMS: dict[str, Harm] = {
    "missing": lambda file, draw: file.unlink(),
    "empty": _empty,
    "cut": _cut,
    "flipped": _flip,
}
LOG_HARMS: dict[str, Harm] = {
    "torn in a letter": _append('{"step": 9, "a": "€'.encode()[:-1]),
    "torn": _append(b'{"step": 9, "a'),
    "nulls": _append(bytes(512)),
    "not utf-8": _append(b'{"step": 9, "a": "\xe9"}\n'),
    "no row": _append(b"[]\n"),
    "no step": _append(b'{"a": 1}\n'),
}


def damage(workshop: Workshop, share: float) -> Iterator[Outcome]:
    """Harm each file of the newest checkpoint, the ledger, the logs and config.yaml, a `share` of all such trials."""
    whole = workshop.folder / "longer"
    shutil.copytree(workshop.unharmed.path, whole)
    draw = random.Random(0)
    with Commands() as resumer:
        status, said = resumer.run("train", "--resume", str(whole), "steps=5")
        if status:
            raise RuntimeError(f"the unharmed resume ended with {status}: {said}")
        for number, (file, name, harm) in enumerate(_trials(workshop.unharmed.path, draw, share)):
            run = workshop.folder / f"harmed-{number}"
            shutil.copytree(workshop.unharmed.path, run)
            harm(run / file, draw)
            wrong, refused = _resumed(resumer, run, RunFolder(whole), fallback=file.startswith("checkpoints/"))
            figures = {"refused by name": float(refused)}
            kind = f"damage, {file.split('/')[0].split('.')[0]}"
            yield Outcome(kind=kind, case=f"{file} {name}", held=not wrong, detail=wrong, figures=figures)
            shutil.rmtree(run)


def _trials(run: Path, draw: random.Random, share: float) -> Iterator[tuple[str, str, Harm]]:
    newest = max(int(each.name) for each in (run / "checkpoints").iterdir() if each.name.isdigit())
    files = [each for each in sorted((run / "checkpoints" / str(newest)).rglob("*")) if each.is_file()]
    found = [(file, name, harm) for file in files for name, harm in HARMS.items() if file.stat().st_size]
    found += [(run / "ledger.sqlite", name, harm) for name, harm in [*HARMS.items(), *[("flipped", _flip)] * 12]]
    found += [(run / f"{log}.jsonl", *harm) for log in ("metrics", "completions") for harm in LOG_HARMS.items()]
    found += [(run / "config.yaml", name, harm) for name, harm in HARMS.items()]
    for file, name, harm in found:
        if draw.random() < share:
            yield file.relative_to(run).as_posix(), name, harm


def _resumed(resumer: Commands, run: Path, expected: RunFolder, *, fallback: bool) -> tuple[str, bool]:
    """Resume a harmed run; return what is wrong with what came of it, and whether it was refused."""
    status, said = resumer.run("train", "--resume", str(run), "steps=5")
    refused = status != 0
    if wrong := plain_ending(status, said):
        return wrong, refused
    if refused and len(said.strip().splitlines()) > 3:
        return f"{len(said.splitlines())} lines of error", refused
    if refused and fallback:
        status, said = resumer.run("train", "--resume", str(run), "--fallback", "steps=5")
        if status:
            return f"--fallback ended with {status}: {said.strip()[-200:]}", refused
    return ("" if status else difference(RunFolder(run), expected)), refused
