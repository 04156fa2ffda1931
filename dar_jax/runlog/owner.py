"""Whose a run folder under a URL is: owner.json, rewritten by every run that begins or goes on there.

Nothing tells a dead run from a living one, and the resume of one that was preempted must not have to ask. So the later
run takes the folder over, and the earlier, which looks before each checkpoint, stops.
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
    """The owner of a run folder: as this run has seen it, and after `take` this run."""

    def __init__(self, objects: Objects) -> None:
        self._objects, self._generation, self._taken = objects, b"", False

    def look(self) -> None:
        """See who it is."""
        _, self._generation = self._objects.read(_NAME)

    def take(self) -> None:
        """Become the owner. Raises DarError where another has become it since this one looked."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        # The token makes every content another, so that a write which was repeated knows itself.
        content = {"host": socket.gethostname(), "process": os.getpid(), "since": since, "token": uuid4().hex}
        self._generation = self._objects.replace(_NAME, json.dumps(content).encode(), self._generation).finish()
        self._taken = True

    def check(self) -> None:
        """Raise DarError where this run was the owner and another one is now."""
        if not self._taken:
            return
        content, generation = self._objects.read(_NAME)
        if generation != self._generation:
            who = (content or b"deleted").decode()
            raise DarError(
                f"{self._objects.url}: another run has taken this folder over ({_NAME}: {who});"
                " it goes on there and this one stops; if that was a mistake, stop the other and go on with --resume"
            )
