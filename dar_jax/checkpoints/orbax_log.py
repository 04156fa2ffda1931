"""What Orbax logs of a save that failed: a page of tracebacks for each of its threads. The run tells it in one line."""

import logging


class _Tracebacks(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and "orbax" in record.pathname)


_FILTER = _Tracebacks()


def drop_tracebacks() -> None:
    """Drop log records of Orbax that carry a traceback, in this process from now on."""
    logging.getLogger("absl").addFilter(_FILTER)  # one that is there already is not added again
