import logging
import sys
from types import SimpleNamespace

from dar_jax.checkpoints.orbax_log import drop_leftovers, drop_tracebacks

ORBAX = "site-packages/orbax/checkpoint/_src/futures/future.py"


def test_of_a_failed_save_orbax_logs_no_page_of_tracebacks(caplog):
    drop_tracebacks()
    drop_tracebacks()
    fault = ValueError("full")
    for path, error in ((ORBAX, (ValueError, fault, None)), (ORBAX, None), ("mine.py", (ValueError, fault, None))):
        logging.getLogger("absl").handle(logging.LogRecord("absl", logging.ERROR, path, 1, "told", None, error))
    assert [(record.pathname, bool(record.exc_info)) for record in caplog.records] == [
        (ORBAX, False),
        ("mine.py", True),
    ]


def test_reads_that_go_on_after_one_has_failed_tell_nothing(caplog, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: told.append(str(found.exc_value)))
    drop_leftovers()
    drop_leftovers()
    for error in (RuntimeError("Event loop is closed"), RuntimeError("another")):
        sys.unraisablehook(SimpleNamespace(exc_value=error))
        logging.getLogger("concurrent.futures").error("exception calling callback", exc_info=error)
    logging.getLogger("asyncio").error("Task exception was never retrieved: coro=<orbax/checkpoint/deserialize>")
    assert told == ["another"]
    assert [str(record.exc_info[1]) for record in caplog.records] == ["another"]
