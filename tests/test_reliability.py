"""The reliability benchmark in its small version."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What these tests set for themselves: the benchmark's runs are as a user's are.
_OURS = ("NPROC", "XLA_FLAGS")


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_is_silent():
    done = subprocess.run(
        [sys.executable, "benchmarks/reliability.py", "--small"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in _OURS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
