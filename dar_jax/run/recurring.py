"""Warnings that come again at every step: shown at first, then now and then."""

import re
from collections.abc import Iterable

_EVERY_STEPS = 10
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


class RecurringWarnings:
    """Let a warning through at its first step, and again once ten steps have passed since it was shown.

    Two that differ in their numbers alone are the same.
    """

    def __init__(self) -> None:
        self._shown: dict[str, int] = {}

    def due(self, step: int, warnings: Iterable[str]) -> list[str]:
        """Return which of a step's warnings are to be shown."""
        due = []
        for warning in warnings:
            kind = _NUMBER.sub("#", warning)
            if kind not in self._shown or step >= self._shown[kind] + _EVERY_STEPS:
                self._shown[kind] = step
                due.append(warning)
        return due
