import logging

from dar_jax.checkpoints.orbax_log import drop_tracebacks

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
