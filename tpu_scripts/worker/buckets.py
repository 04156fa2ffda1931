"""What a host reads and writes before and after a run, through the layer by which a run itself does."""

from pathlib import Path

from dar_jax.runlog.objects import Objects, Patience

# Somebody may wait for the error, but a host that has just come up may need longer than one who starts a run.
_PATIENCE = Patience(retries=4, delay_s=1, longest_delay_s=16, wait_s=120)


def folder(where: str) -> Objects:
    """Open a folder by its URL, gs://BUCKET/FOLDER, or by a path that all hosts share."""
    url = where if "://" in where else Path(where).absolute().as_uri()
    return Objects(url, _PATIENCE)
