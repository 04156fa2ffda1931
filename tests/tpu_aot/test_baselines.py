"""Small runs take what they took: within 1 %, of the same compiler."""

from importlib.metadata import version

import pytest

from tests.tpu_aot.baselines import CASES, kept, measure

pytest.importorskip("libtpu", reason="the TPU's compiler is not installed: pip install 'dar-jax[tpu]'")
# What a compiler sets aside comes in blocks.
BLOCK = 64 * 1024


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_small_run_takes_what_it_took(name):
    baselines = kept()
    if version("libtpu") not in baselines:
        pytest.skip(f"there are baselines of libtpu {', '.join(baselines)}, not of {version('libtpu')}")
    expected = baselines[version("libtpu")][name]
    measured = measure(name)
    assert measured.keys() == expected.keys()
    for program, figures in measured.items():
        for figure, value in figures.items():
            tolerance = pytest.approx(expected[program][figure], rel=0.01, abs=BLOCK if "bytes" in figure else 0)
            assert value == tolerance, f"{program}: {figure}; python -m tests.tpu_aot.baselines keeps what is better"
