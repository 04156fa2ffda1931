"""Silence Orbax's tracebacks of failures, which the run reports in one line."""

import logging
import sys
from collections.abc import Callable


class _Tracebacks(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and "orbax" in record.pathname)


class _Leftovers(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not (_of_a_closed_loop(error) or "orbax" in record.getMessage())


_FILTER, _OF_READS = _Tracebacks(), _Leftovers()


def drop_tracebacks() -> None:
    """Drop Orbax's log records with a traceback, from now on in this process."""
    logging.getLogger("absl").addFilter(_FILTER)  # adding it again does nothing


def drop_leftovers() -> None:
    """Drop messages of Orbax's reads that continue after another one failed, from now on: their loop is closed."""
    for name in ("asyncio", "concurrent.futures"):
        logging.getLogger(name).addFilter(_OF_READS)
    if not isinstance(sys.unraisablehook, _Unraisable):
        sys.unraisablehook = _Unraisable(sys.unraisablehook)


class _Unraisable:
    def __init__(self, before: Callable[["sys.UnraisableHookArgs"], object]) -> None:
        self._before = before

    def __call__(self, found: "sys.UnraisableHookArgs") -> None:
        if not _of_a_closed_loop(found.exc_value):
            self._before(found)


def _of_a_closed_loop(error: BaseException | None) -> bool:
    return isinstance(error, RuntimeError) and "loop is closed" in str(error)
