"""The run folder: what a run leaves for people and for its own resume, in a folder or, under a URL, in a bucket.

config.yaml         the resolved settings, without secrets
metrics.jsonl       one line a step
completions.jsonl   one line a judged completion
evaluations.jsonl   one line an evaluation
timeline.jsonl      one line a phase of a step
not_finite.jsonl    one line a row of the update whose numbers were not finite, which ended the run
ledger.sqlite       every answer paid for (the judge's)
held_out.sqlite     those of an evaluation's own judge
checkpoints/        Orbax (checkpoints.run_state)
policy/             config.json and tokenizer: with a checkpoint, a whole model (policy.keep_words)
.lock               locked by the process that runs here (lock.py)

Only its owner can read it: prompts, completions and paid answers may be confidential.

Nothing can be appended to in a bucket, and SQLite does not work there. So each log is a folder with an object a step
(metrics/00000012.jsonl), and the ledger a folder with an object a batch of answers (judging.segments). A local folder
keeps the plain files: they can be followed and searched, and an append is all that they need.
"""

from pathlib import Path

from dar_jax.runlog.local import RunFolder
from dar_jax.runlog.remote import RemoteFolder

__all__ = ["RemoteFolder", "RunFolder", "layout"]


def layout(where: Path | str) -> type[RunFolder] | type[RemoteFolder]:
    """Choose how a run lies there: files in a folder, objects under a URL."""
    return RemoteFolder if "://" in str(where) else RunFolder
