"""The reliability benchmark in its small version."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.plain import plain_environment

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_is_silent():
    done = subprocess.run(
        [sys.executable, "benchmarks/reliability.py", "--small"],
        cwd=ROOT,
        env=plain_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
