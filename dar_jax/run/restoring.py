"""The state that a run starts from: its initial parameters, or the latest good checkpoint with logs cut back to it."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from jax.sharding import Mesh

from dar_jax import hosts
from dar_jax.batches import Batch
from dar_jax.checkpoints import DamagedCheckpoint, RunState, not_finite, some
from dar_jax.checkpoints.checksums import checksum
from dar_jax.errors import SettingError
from dar_jax.learning.learner_state import State
from dar_jax.models import Params
from dar_jax.run import opening
from dar_jax.run.origin import check_origin
from dar_jax.run.progress import RunProgress
from dar_jax.run.session import Session
from dar_jax.terminal.console import Console

T = TypeVar("T")


class Start(NamedTuple):
    """The state that a run starts from; `batch` is set if a checkpoint was saved between two updates of a step."""

    state: State
    reference: Params | None
    progress: RunProgress
    batch: Batch | None = None


def begin(session: Session, console: Console) -> Start:
    """Build the state of a new run from its initial parameters, which the first update donates."""
    params = session.start_params(console)
    progress = RunProgress(start_checksum=checksum(params), memory=session.config.algorithm.initial_memory())
    return Start(reference=_reference(session, params), state=session.learner.init(params), progress=progress)


def restore(
    session: Session, folder: opening.Folder, saved: RunState, console: Console, *, fallback: bool = False
) -> Start:
    """Restore the latest checkpoint (with `fallback` the latest good one) and drop log rows of later steps.

    A run that was killed before its first checkpoint restarts. The devices never hold more than in training: the
    initial parameters are freed before the state is loaded. Raises SettingError if a checkpoint is damaged or lost, or
    belongs to other settings, data or weights.
    """
    numbers = saved.numbers[::-1]
    hosts.agree({"checkpoints": str(numbers), "--fallback": str(fallback)})
    if not numbers:
        opening.restart(session, folder)
        console.note(f"{folder.path} ended before its first checkpoint; restarting from the first step")
        return begin(session, console)
    newest = functools.partial(_newest_good, console=console, fallback=fallback)
    number, kept = newest(numbers, saved.progress)
    _check(kept, session, folder)
    reference, frozen = _first(session, kept["start_checksum"], console)
    abstract = session.learner.abstract_state().trees()
    candidates = [each for each in numbers if each <= number]
    number, (trees, kept, batch) = newest(candidates, lambda each: _load(saved, each, abstract, session.mesh, folder))
    _set_aside(saved, [each for each in numbers if each > number], console)
    progress = RunProgress(**{name: value for name, value in kept.items() if name != "origin"})
    _cut_logs(folder, progress)
    console.note(f"resumed {folder.path} after step {progress.step}, update {progress.update}")
    return Start(State.of(trees, frozen), reference, progress, batch)


def _load(saved: RunState, number: int, abstract: Any, mesh: Mesh, folder: opening.Folder) -> Any:
    """Load a checkpoint. Raises DamagedCheckpoint if it is damaged, or an array in it is not finite."""
    loaded = saved.load(number, abstract, mesh)
    if broken := not_finite(loaded[0], mesh):
        raise DamagedCheckpoint(f"{folder.checkpoints}/{number}: NaN or infinite numbers in {some(broken)}")
    return loaded


def _newest_good(
    numbers: Sequence[int], read: Callable[[int], T], *, console: Console, fallback: bool
) -> tuple[int, T]:
    """Read the first of these checkpoints, newest first; with `fallback` the first good one."""
    for number, older in zip(numbers, [*numbers[1:], None], strict=True):
        try:
            return number, read(number)
        except DamagedCheckpoint as damage:
            if not fallback or older is None:
                way_out = f"remove it, or resume from {older} with --fallback"
                lost = "there is no older one: put it back from a copy, or start another run"
                raise SettingError(f"{damage}; {lost if older is None else way_out}") from None
            console.warn(f"{damage}; resuming from {older}")
    raise AssertionError("no checkpoint to read")


def _check(kept: dict[str, Any], session: Session, folder: opening.Folder) -> None:
    check_origin(kept["origin"], session, str(folder.path))
    if session.config.steps < kept["step"]:
        raise SettingError(
            f"steps: got {session.config.steps}, but {kept['step']} steps are made; leave it out, or take an earlier"
            " checkpoint with dar-jax export --step"
        )


def _first(session: Session, start_checksum: str, console: Console) -> tuple[Params | None, Params]:
    """Return the reference and the frozen parameters; the other initial parameters are freed."""
    params = session.start_params(console)
    if checksum(params) != start_checksum:
        raise SettingError(
            f"policy.path: {session.config.policy.path} is not what the run started from (its weights differ);"
            " put the old checkpoint back"
        )
    return _reference(session, params), session.learner.frozen(params)


def _reference(session: Session, params: Params) -> Params | None:
    config = session.config
    needed = "reference" in config.algorithm.needs or config.evaluation
    return session.learner.reference(params, config.reference.placement) if needed else None


def _set_aside(saved: RunState, damaged: Sequence[int], console: Console) -> None:
    """Move damaged checkpoints away, since the run will save under their numbers again."""
    for number, place in zip(damaged, saved.set_aside(damaged) if damaged else [], strict=False):
        console.warn(f"the damaged checkpoints/{number} is {'deleted' if place == 'deleted' else f'now {place}'}")


def _cut_logs(folder: opening.Folder, progress: RunProgress) -> None:
    step = progress.step
    if hosts.is_first():
        folder.forget_after(step, completions=step + (progress.update > 0))
    if progress.evaluation_due:  # unless a later start made it
        logged = hosts.is_first() and any(row["step"] == step for row in folder.read("evaluations"))
        progress.evaluation_due = not any(hosts.gather("evaluated", logged, bool))
