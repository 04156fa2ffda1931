import subprocess

import pytest

from tests.tpu_scripts.stand_in import SCRIPTS, StandIns


@pytest.fixture
def cloud(tmp_path):
    """Stand-ins for the cloud's programs, and the settings that every script needs."""
    stand_ins = StandIns(tmp_path / "cloud")
    stand_ins.add("gcloud", "git", "kubectl")
    stand_ins.environment |= {"DAR_JAX_PROJECT": "my-project", "DAR_JAX_ZONE": "us-west4-a", "DAR_JAX_NAME": "tldr"}
    stand_ins.environment["DAR_JAX_POLL"] = "0"
    return stand_ins


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("steps: 3\n")
    return str(path)


@pytest.fixture
def shell(cloud, tmp_path):
    """Run lines of bash where the repository is, with stand-ins that answer well."""
    cloud.add("docker", "ssh-add", "mkdir")
    cloud.answer("queued-resources list", "ACTIVE")
    cloud.answer("tpu-vm list", "tldr READY HEALTHY")
    cloud.answer("preflight.py", "host-0 1a2b")
    cloud.answer("state.sh", "host-0 done 0 0")
    (tmp_path / "tpu_scripts").symlink_to(SCRIPTS)
    (tmp_path / "my.yaml").write_text("steps: 3\n")

    def run(lines, **variables):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", lines],
            cwd=tmp_path,
            env=cloud.environment | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done

    return run
