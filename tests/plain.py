"""The environment of a process that runs as a user's does, without what these tests set for themselves."""

import os


def plain_environment() -> dict[str, str]:
    """Return this process's environment with XLA's own choices of threads and optimisation."""
    return {name: value for name, value in os.environ.items() if name not in ("NPROC", "XLA_FLAGS")}
