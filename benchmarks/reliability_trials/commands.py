"""A process that runs one `dar-jax` command after the other: starting one takes longer than most of them."""

import json
import subprocess
import sys
from types import TracebackType

from reliability_trials.workshop import HERE, surroundings


class Commands:
    """The process; it ends with the block."""

    def __enter__(self) -> "Commands":
        command = [sys.executable, str(HERE / "commands_child.py")]
        self._process = subprocess.Popen(
            command, env=surroundings(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def run(self, *arguments: str) -> tuple[int, str]:
        """Return the exit status and what was written to standard error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"dar-jax {' '.join(arguments)} took its process with it")
        status, said = json.loads(line)
        return status, said
