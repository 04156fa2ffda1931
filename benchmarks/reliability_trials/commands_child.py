"""`dar-jax` for a list of arguments a line of standard input; answers each with its exit status and standard error."""

import contextlib
import io
import json
import sys

from dar_jax.cli.main import main

for line in sys.stdin:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(json.loads(line))
        except BaseException as error:
            status = 1
            said.write(f"Traceback: {type(error).__name__}: {error}\n")
    print(json.dumps([status, said.getvalue()]), flush=True)
