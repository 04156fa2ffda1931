"""A run's parameters read back while the run may be going on: nothing in its folder is written, moved or cleaned."""

from pathlib import Path
from typing import Any

from orbax.checkpoint import v1 as ocp


def absolute(directory: Path | str) -> Path | str:
    """Return the directory as Orbax wants it: an absolute path, or a `gs://` URL as it stands."""
    return directory if isinstance(directory, str) else directory.absolute()


def saved_numbers(directory: Path | str) -> list[int]:
    """List the numbers of the complete checkpoints, oldest first."""
    return sorted(each.step for each in ocp.path.step.standard_name_format().find_all(absolute(directory)))


def load_params(directory: Path | str, number: int, abstract: Any) -> Any:
    """Load the parameters alone onto the places that `abstract` names, wherever they lay when saved."""
    return ocp.load_checkpointables(f"{absolute(directory)}/{number}", {"params": abstract})["params"]
