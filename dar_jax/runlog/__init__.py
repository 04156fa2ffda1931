"""The run folder: logs, ledger, checkpoints and policy of a run, in a folder or, under a URL, in a bucket.

config.yaml         the resolved settings, without secrets
metrics.jsonl       one line a step
completions.jsonl   one line a judged completion
evaluations.jsonl   one line an evaluation
timeline.jsonl      one line a phase of a step
not_finite.jsonl    one line a row of the update that was not finite, which ended the run
ledger.sqlite       every paid answer of the judge
held_out.sqlite     those of a separate evaluation judge
checkpoints/        Orbax (checkpoints.run_state)
policy/             config.json and tokenizer: with a checkpoint, a whole model (policy.keep_words)
.lock               locked by the process that runs here (lock.py)

Only its owner can read it: prompts, completions and paid answers may be confidential.

Objects in a bucket cannot be appended to, and SQLite does not work there. Each log is then a folder with an object a
step (metrics/00000012.jsonl), and the ledger a folder with an object a batch of answers (judging/ledger/segments.py).
A local folder has plain files, which can be followed and searched.
"""

from pathlib import Path

from dar_jax.runlog.local import RunFolder
from dar_jax.runlog.remote import RemoteFolder

__all__ = ["RemoteFolder", "RunFolder", "layout"]


def layout(where: Path | str) -> type[RunFolder] | type[RemoteFolder]:
    """Return the class of the run folder at a location: files in a folder, or objects under a URL."""
    return RemoteFolder if "://" in str(where) else RunFolder
