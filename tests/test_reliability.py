"""The reliability benchmark in its small version, as `.ci/run` runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_is_silent():
    done = subprocess.run(
        [sys.executable, "benchmarks/reliability.py", "--small"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
