"""Points of a grid of settings, and their names."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dar_jax.settings.interpolation import literal

# Settings by their keys, as on the command line: {"algorithm.name": "dar", "group_size": 2}.
Changes = Mapping[str, Any]


def points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return the points of a grid, the last key varying fastest."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def overrides(changes: Changes) -> list[str]:
    """Return changes as overrides, `key=value`."""
    return [f"{key}={json.dumps(literal(value), ensure_ascii=False)}" for key, value in changes.items()]


def written(point: Changes) -> str:
    """Return the name of a point by the last parts of its keys, or whole keys if two end alike."""
    words = [key.rpartition(".")[2] for key in point]
    names = words if len(set(words)) == len(words) else list(point)
    return ", ".join(f"{name}={_plain(value)}" for name, value in zip(names, point.values(), strict=True))


def at_an_end(point: Changes, grid: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return the keys whose value is at an end of two or more numbers of the grid: better values may be beyond."""
    numbers = {key: [value for value in values if _is_number(value)] for key, values in grid.items()}
    ends = {key: (min(values), max(values)) for key, values in numbers.items() if len(values) > 1}
    return [key for key in ends if point[key] in ends[key]]


def folder(point: Changes) -> str:
    """Return the folder name of a point, without `=`, which would make it an override."""
    return re.sub(r"[^\w.,+-]", "-", written(point).replace(" ", ""))


def within(key: str, settings: Sequence[str]) -> bool:
    """Return whether a key is one of these settings or a part of one."""
    return any(f"{key}.".startswith(f"{setting}.") for setting in settings)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
