"""Strict JSON: no NaN, and no control characters on a screen."""

import json
import math
from collections.abc import Mapping
from typing import Any

from dar_jax.terminal.visible import visible


def plain(value: Any) -> Any:
    """Return a value for JSON: NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON for a screen, with control characters escaped; it parses to the same value."""
    return visible(json.dumps(plain(value), ensure_ascii=False, indent=indent))
