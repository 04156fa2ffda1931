"""Rows of a log as lines of JSON."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

LOGS = ("metrics", "completions", "evaluations", "timeline")


def to_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Write rows as lines. NaN and infinities become null."""
    return [json.dumps(plain(row), ensure_ascii=False) + "\n" for row in rows]


def from_text(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each whole line with its row; a last line without an end is no row."""
    # Not splitlines: texts hold U+2028 and its like as they are.
    for line in text.split("\n")[:-1]:
        yield line + "\n", json.loads(line)


def plain(value: Any) -> Any:
    """Return it as JSON has it: NaN and infinities are null."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
