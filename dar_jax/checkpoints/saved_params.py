"""A run's parameters read back while the run may be going on: nothing in its folder is written, moved or cleaned."""

from pathlib import Path
from typing import Any

from orbax.checkpoint import v1 as ocp


def saved_numbers(directory: Path) -> list[int]:
    """List the numbers of the complete checkpoints, oldest first; one being written has a longer name."""
    return sorted(int(each.name) for each in directory.iterdir() if each.name.isdigit() and each.is_dir())


def load_params(directory: Path, number: int, abstract: Any) -> Any:
    """Load the parameters alone onto the places that `abstract` names, wherever they lay when saved."""
    return ocp.load_checkpointables((directory / str(number)).absolute(), {"params": abstract})["params"]
