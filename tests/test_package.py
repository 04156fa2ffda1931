"""The built wheel and sdist: everything a user needs is inside, and the quickstart runs from any folder."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.plain import plain_environment

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build both as an installer does; the sources are copied, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("built")
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        if (ROOT / name).exists():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(build, cwd=folder / "source", check=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.mark.slow
def test_wheel_and_sdist_hold_what_a_user_needs(built):
    wheel, sdist = built
    inside = set(zipfile.ZipFile(wheel).namelist())
    for name in ("py.typed", "configs/quickstart.yaml", "assets/minitldr-sft/model.safetensors", "training.py"):
        assert f"dar_jax/{name}" in inside
    assert "dar_jax/judging/questions/attacks.jsonl" in inside
    assert any(name.endswith("licenses/LICENSE") for name in inside)
    assert not [name for name in inside if name.startswith(("tests", "benchmarks"))]
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "configs/quickstart.yaml",
        "tests/nano.py",
        "dar_jax/py.typed",
    } <= names


@pytest.mark.slow
def test_the_quickstart_runs_from_the_wheel_in_a_foreign_folder(built, tmp_path):
    wheel, _ = built
    site = str(tmp_path / "site")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel], check=True)
    home = tmp_path / "a folder, elsewhere"
    home.mkdir()
    environment = plain_environment() | {"PYTHONPATH": site}
    where = [sys.executable, "-c", "import dar_jax; print(dar_jax.__file__)"]
    found = subprocess.run(where, cwd=home, env=environment, capture_output=True, text=True, check=True).stdout
    assert found.startswith(site)
    command = [sys.executable, "-m", "dar_jax", "train", "quickstart", "steps=1", "evaluation.prompts=8"]
    done = subprocess.run(
        [*command, "--run-dir", "run"], cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (home / "run" / "metrics.jsonl").read_text().count("\n") == 1
    assert os.listdir(home) == ["run"]
