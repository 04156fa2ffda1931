"""The owner of a run folder under a URL: owner.json, rewritten by every run that starts or resumes there.

A dead run cannot be distinguished from a live one, and the resume of a preempted run must not need confirmation. So the
later run takes the folder over, and the earlier one, which checks before each checkpoint, stops.
"""

import json
import os
import socket
import time
from uuid import uuid4

from dar_jax.errors import DarError
from dar_jax.runlog.objects import Objects

_NAME = "owner.json"


class Owner:
    """The owner of a run folder as seen by this run; after `take`, this run."""

    def __init__(self, objects: Objects) -> None:
        self._objects, self._generation, self._taken = objects, b"", False

    def look(self) -> None:
        """Read the owner."""
        _, self._generation = self._objects.read(_NAME)

    def take(self) -> None:
        """Become the owner. Raises DarError if another run became it since `look`."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        # The token makes every content different, so that a retried write recognizes itself.
        content = {"host": socket.gethostname(), "process": os.getpid(), "since": since, "token": uuid4().hex}
        self._generation = self._objects.replace(_NAME, json.dumps(content).encode(), self._generation).finish()
        self._taken = True

    def check(self) -> None:
        """Raise DarError if another run has become the owner."""
        if not self._taken:
            return
        content, generation = self._objects.read(_NAME)
        if generation != self._generation:
            who = (content or b"deleted").decode()
            raise DarError(
                f"{self._objects.url}: another run has taken this folder over ({_NAME}: {who});"
                " it continues there and this one stops; if that was a mistake, stop the other and resume with --resume"
            )
