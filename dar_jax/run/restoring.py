"""What a resume takes from a run folder: the newest checkpoint, and logs cut back to it."""

from typing import NamedTuple

import jax

from dar_jax import hosts, opening
from dar_jax.batches import Batch
from dar_jax.checkpoints import RunState
from dar_jax.errors import SettingError
from dar_jax.learner import State
from dar_jax.run.progress import RunProgress
from dar_jax.session import Session


class Restored(NamedTuple):
    """What a checkpoint held; `batch` where it was saved between two updates of a step."""

    state: State
    progress: RunProgress
    batch: Batch | None


def restore(
    session: Session, folder: opening.Folder, saved: RunState, state: State, start_checksum: str
) -> Restored | None:
    """Load the newest checkpoint into the shapes and shardings of `state`, and drop log rows of later steps.

    Returns None where the run was killed before its first checkpoint: its folder is then as at the start of the run.
    Raises SettingError where the checkpoint is of another policy, or where checkpoints are lost.
    """
    number = saved.latest
    hosts.agree({"newest checkpoint": str(number)})
    if number is None:
        opening.begin_again(session, folder)
        return None
    trees, kept, batch = saved.load(number, jax.tree.map(_abstract, state.trees()), session.mesh)
    progress = RunProgress(**kept)
    if progress.start_checksum != start_checksum:
        raise SettingError(
            f"policy.path: {session.config.policy.path} is not what the run started from (its weights differ);"
            " put the old checkpoint back"
        )
    _cut_logs(folder, progress)
    return Restored(State.of(trees, state.frozen), progress, batch)


def _cut_logs(folder: opening.Folder, progress: RunProgress) -> None:
    step = progress.step
    if hosts.is_first():
        folder.forget_after(step, completions=step + (progress.update > 0))
    if progress.evaluation_due:  # unless a later start has caught up on it
        logged = hosts.is_first() and any(row["step"] == step for row in folder.read("evaluations"))
        progress.evaluation_due = not any(hosts.gather("evaluated", logged, bool))


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
