"""Kills and signals in every phase of a run, on one process and on two; each run then goes on and is compared."""

import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from dar_jax.runlog import RunFolder
from reliability_trials.child import PHASES
from reliability_trials.outcomes import Outcome
from reliability_trials.workshop import HERE, Workshop, difference, plain_ending
from tests.multihost.processes import start

# Kills of one run before it may finish.
_A_RUN = 6
_PATIENCE_S = 300.0
# What the process that minds a host's run ends with when the run is killed.
_KILLED = 128 + signal.SIGKILL


def kills(workshop: Workshop, count: int) -> Iterator[Outcome]:
    """Kill runs `count` times without warning, phase after phase, and compare each with one that ran whole."""
    for run, cases in _chains("kill", "KILL", count):
        wrong = [_once(workshop, workshop.folder / run, at) for at in cases]
        yield from _ended(workshop, workshop.folder / run, "kills", cases, wrong)


def signals(workshop: Workshop, count: int) -> Iterator[Outcome]:
    """Send runs SIGTERM, SIGINT and SIGHUP in turns; a run leaves with status 5, or 0 where it was done."""
    for number in ("TERM", "INT", "HUP"):
        for run, cases in _chains(f"signal-{number}", number, count // 3):
            wrong = [_once(workshop, workshop.folder / run, at) for at in cases]
            yield from _ended(workshop, workshop.folder / run, "signals", cases, wrong)


def two_processes(workshop: Workshop, count: int) -> Iterator[Outcome]:
    """Kill one of a run's two processes; the other has to leave by itself, and both go on together."""
    whole = workshop.folder / "two-whole"
    statuses = _both(workshop, whole, "", 0)
    if statuses != [0, 0]:
        raise RuntimeError(f"the run of two processes that nothing stops ended with {statuses}")
    for number, at in enumerate(_cases("KILL", count, seed=2)):
        run, victim = workshop.folder / f"two-{number}", number % 2
        statuses, case = _both(workshop, run, at, victim), f"{at} on host {victim}"
        if statuses[victim] == 0 == statuses[1 - victim]:
            wrong = ""
        elif statuses[victim] != _KILLED or statuses[1 - victim] != 6:
            wrong = f"statuses {statuses}, expected {_KILLED} of the one killed and 6"
        else:
            again = _both(workshop, run, "", 0)
            wrong = "" if again == [0, 0] else f"the resume ended with {again}"
        wrong = wrong or difference(RunFolder(run), RunFolder(whole))
        yield Outcome(kind="kills, two processes", case=case, held=not wrong, detail=wrong)


def _cases(number: str, count: int, seed: int) -> list[str]:
    draw, phases = random.Random(seed), list(PHASES)[:-1]
    of = {"update": 4, "saving": 2}
    return [
        f"{phase}:{draw.randint(1, of.get(phase, 1))}:{draw.choice((0, 2, 10, 50, 200))}:SIG{number}"
        for phase in (phases * (count // len(phases) + 1))[:count]
    ]


def _chains(name: str, number: str, count: int) -> Iterator[tuple[str, list[str]]]:
    cases = _cases(number, count, seed=sum(map(ord, number)))
    for first in range(0, count, _A_RUN):
        yield f"{name}-{first}", cases[first : first + _A_RUN]


def _once(workshop: Workshop, run: Path, at: str) -> str:
    """Run until the signal; return what is wrong with the ending."""
    try:
        done = workshop.run(workshop.start(run), at=at, timeout_s=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        return f"no end within {_PATIENCE_S:.0f} s"
    allowed = (-signal.SIGKILL, 0) if at.endswith("KILL") else (5, 0)
    if done.returncode not in allowed:
        return f"status {done.returncode}: {(done.stderr.strip().splitlines() or ['no message'])[-1][:200]}"
    return plain_ending(done.returncode, done.stderr)


def _ended(workshop: Workshop, run: Path, kind: str, cases: list[str], wrong: list[str]) -> Iterator[Outcome]:
    """Let a run go on to its end; return an outcome for each of its stops."""
    done = workshop.run(workshop.start(run), timeout_s=_PATIENCE_S)
    last = f"the last resume ended with {done.returncode}: {done.stderr[-300:]}" if done.returncode else ""
    last = last or difference(RunFolder(run), workshop.unharmed)
    for case, reason in zip(cases, wrong, strict=True):
        yield Outcome(kind=kind, case=case, held=not (reason or last), detail=reason or last)


def _both(workshop: Workshop, run: Path, at: str, victim: int) -> list[int]:
    arguments = [*workshop.start(run), *(["mesh.devices=4"] if "--run-dir" in workshop.start(run) else [])]
    own = [[at if host == victim else "", *arguments] for host in (0, 1)]
    hosts = start((str(HERE / "child.py"),), own, run.with_name(f"{run.name}-said"), lost_after_s=10)
    return hosts.wait(_PATIENCE_S)
