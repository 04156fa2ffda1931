import pytest

from tests.tpu_scripts.stand_in import StandIns


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
