"""Models of real size, by the TPU's own compiler: minutes each, and no TPU."""

import itertools
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from dar_jax.cli.main import main
from dar_jax.config.config_file import read_config
from dar_jax.config.run_config import to_plain

pytest.importorskip("libtpu", reason="the TPU's compiler is not installed: pip install 'dar-jax[tpu]'")
ROOT = Path(__file__).parents[2]
PODS, BUDGETS = ROOT / "configs" / "pods", ROOT / "benchmarks" / "tpu_budgets.py"
KEPT = json.loads((ROOT / "benchmarks" / "results" / "tpu_budgets.json").read_text())


def kept_of_others():
    """Say that the figures are of other versions than these; nothing where they are of these."""
    found = {name: version(name) for name in KEPT["versions"]}
    return "" if found == KEPT["versions"] else f"figures are kept of {KEPT['versions']}, this is {found}"


def programs_of(task):
    """Return the settings that decide a run's programs."""
    plain = to_plain(read_config(PODS / f"{task}.yaml"))
    return {name: value for name, value in plain.items() if name not in ("data", "judge", "evaluation")}


@pytest.mark.slow
def test_the_tasks_of_the_paper_fit_their_slice(capsys):
    policy = f"policy.path={PODS}/models/qwen2-7b"
    assert programs_of("tldr") == programs_of("hh_helpful") == programs_of("hh_harmless")
    assert main(["plan", str(PODS / "tldr.yaml"), policy, "--topology", "v5e:2x4", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["fits"]
    assert [each["name"] for each in plan["programs"]] == [
        *("decode_params", "prefill", "decode", "compute_params", "recall", "regress")
    ]
    for each in plan["programs"]:
        assert each["bytes"]["peak"] + sum(each["resident_bytes"].values()) < 12 * 2**30
    assert plan["run"]["dollars"] > 0
    if not kept_of_others():
        kept = {each["name"]: each for each in KEPT["cases"]["qwen2-7b"]["programs"]}
        for each, figure in itertools.product(plan["programs"], ("needed_bytes", "flops", "read_bytes")):
            assert each[figure] == pytest.approx(kept[each["name"]][figure], rel=0.01), (each["name"], figure)


@pytest.mark.slow
def test_budgets_hold_and_figures_have_not_moved():
    """The smallest case; the others are run by hand, `python benchmarks/tpu_budgets.py`."""
    if told := kept_of_others():
        pytest.skip(told)
    command = [sys.executable, BUDGETS, "--only", "qwen2-1.5b"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
