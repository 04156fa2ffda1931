"""The end of a run whose loss, gradient norm or parameters are not finite: nothing is saved or judged after it."""

import math
from typing import Any

import numpy as np

from dar_jax import hosts
from dar_jax.batches import Batch
from dar_jax.checkpoints import RunState
from dar_jax.errors import NotFinite
from dar_jax.learner import APPLIED, COUNTED
from dar_jax.parallel import whole
from dar_jax.run.opening import Folder
from dar_jax.run.progress import RunProgress
from dar_jax.run.session import Purpose, Session

LOG = "not_finite"


class FiniteUpdates:
    """Check the metrics of updates; raise NotFinite at the first update that is not finite.

    All hosts have the same metrics, so they decide alike.
    """

    def __init__(self, session: Session, folder: Folder, saved: RunState) -> None:
        self._session, self._folder, self._saved = session, folder, saved

    def checked(self, updates: list[dict[str, float]], batch: Batch, progress: RunProgress) -> list[dict[str, float]]:
        """Return the metrics of the latest updates of `batch`, less those in which no example counted.

        Raises NotFinite if one was not applied, after the rows of that update have been logged.
        """
        made = []
        for index, metrics in enumerate(updates, progress.update - len(updates)):
            applied, counted = metrics.pop(APPLIED), metrics.pop(COUNTED)
            if counted and not applied:
                self._write(batch, progress.step, index)
                raise NotFinite(self._message(metrics, progress.step, index))
            if counted:
                made.append(metrics)
        return made

    def _write(self, batch: Batch, step: int, index: int) -> None:
        session = self._session
        indices = session.learner.parts(batch, session.key(Purpose.MINIBATCHES, step))
        part = session.learner.part(batch, indices[index])
        rows = [{"step": step + 1, "update": index + 1, **row} for row in part_rows(part, session)]
        with hosts.together(LOG):
            if hosts.is_first():
                self._folder.write(LOG, rows)
            self._folder.flush()

    def _message(self, metrics: dict[str, float], step: int, index: int) -> str:
        learning, path = self._session.config.learning, self._folder.path
        return (
            f"step {step + 1}, update {index + 1}: {_figure(metrics)}; the update was not applied and the run ends."
            f" {_newest(self._saved.latest, learning.updates_per_batch, str(path))}."
            f" Likely causes: learning.optimizer.learning_rate={learning.optimizer.learning_rate:g} is too high,"
            f" learning.logprob_temperature={learning.logprob_temperature:g} too low, or weights of the policy are too"
            f" large for {learning.compute_dtype}. The log {LOG} in {path} has the rows of the update. A resume would"
            " repeat it: start another run with other settings, from this policy or from the checkpoint by dar-jax"
            " export"
        )


def part_rows(part: Batch, session: Session) -> list[dict[str, Any]]:
    """Return one dict a row of an update's examples: texts, weight and log-probs, nats a completion.

    A collective: every host must call it, and gets all rows.
    """
    part = whole(part, session.mesh)
    examples, rows, length = part.mask_completion_ERT.shape
    return [
        {"example": example, "row": row, **_row(part, (example, row), length, session)}
        for example in range(examples)
        for row in range(rows)
    ]


def _row(part: Batch, at: tuple[int, int], length: int, session: Session) -> dict[str, Any]:
    token_S, mask_S = part.inputs_ER.token_BT[at], part.inputs_ER.mask_BS[at]
    mask_T = part.mask_completion_ERT[at]
    decode, logprobs = session.tokenizer.decode, {"sampling": part.sampling_logprob_ERT, "ref": part.ref_logprob_ERT}
    return {
        "prompt": decode(token_S[:-length][mask_S[:-length]].tolist()),
        "completion": decode(token_S[-length:][mask_T].tolist()),
        "tokens": int(mask_T.sum()),
        "weight": float(part.weight_E[at[0]]),
        "counted": bool(part.mask_E[at[0]]),
        **{
            f"{name}_logprob": float(np.where(mask_T, logprob_ERT[at], 0.0).sum())
            for name, logprob_ERT in logprobs.items()
            if logprob_ERT is not None
        },
    }


def _figure(metrics: dict[str, float]) -> str:
    named = {"loss": "the loss", "optimizer/grad_norm": "the gradient norm"}
    found = [f"{name} is {metrics[key]}" for key, name in named.items() if not math.isfinite(metrics[key])]
    return " and ".join(found) or "parameters would no longer be finite"


def _newest(number: int | None, updates: int, path: str) -> str:
    if number is None:
        return "No checkpoint was written"
    step, update = divmod(number, updates)
    within = f", update {update} of the next" if update else ""
    return f"The newest checkpoint, {path}/checkpoints/{number} (after step {step}{within}), is finite"
