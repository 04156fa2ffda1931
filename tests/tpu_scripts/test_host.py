"""What runs on a host, by a stand-in for the service manager: the service, its command, its state."""

import re
import shlex
import shutil
import subprocess

import pytest

from tests.tpu_scripts.stand_in import SCRIPTS

TOLD = ["gs://b/runs/tldr", "--run-dir", "gs://b/runs/tldr", "--secret", "HF_TOKEN=projects/p/secrets/hf", "--"]


@pytest.fixture
def host(cloud):
    """A host as setup.sh leaves it, its Python a stand-in as well."""
    cloud.add("sudo", "systemctl", "python")
    source = cloud.folder / "dar_jax" / "source" / "tpu_scripts"
    source.mkdir(parents=True)
    (source / "worker").symlink_to(SCRIPTS / "worker")
    return cloud


def test_a_started_service_runs_again_what_it_was_told(host):
    overrides = ["steps=5", "judge={name: openai, model: 'a b'}", '$HOME "x" %h \\ &']
    host.run(host.folder / "dar_jax/source/tpu_scripts/worker/start.sh", *TOLD, *overrides)
    systemctl = [call[1:] for call in host.calls if call[:2] == ["sudo", "systemctl"]]
    assert [call[1] for call in systemctl] == ["daemon-reload", "reset-failed", "enable", "restart"]
    command = (host.folder / "dar_jax" / "run.sh").read_text().splitlines()[1]
    base = f"{host.folder}/dar_jax"
    expected = [
        "exec",
        f"{base}/venv/bin/python",
        "-u",
        f"{base}/source/tpu_scripts/worker/run.py",
        *TOLD[1:],
        *overrides,
    ]
    assert shlex.split(command) == expected


def test_the_service_is_filled_in_and_well_formed(host, tmp_path):
    host.run(host.folder / "dar_jax/source/tpu_scripts/worker/start.sh", *TOLD)
    unit = host.input
    assert not re.search(r"@\w+@", unit.replace("start.sh fills in @BASE@, @USER@ and @RUN_DIR@", ""))
    settings = dict(line.split("=", 1) for line in unit.splitlines() if re.match(r"\w+=", line))
    assert settings["ExecStart"] == f"/bin/bash {host.folder}/dar_jax/run.sh"
    assert settings["Restart"] == "on-failure"
    assert settings["RestartPreventExitStatus"] == "2 3 4 7"
    assert settings["KillMode"] == "mixed"
    assert settings["Environment"] == "PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1"
    assert settings["WantedBy"] == "multi-user.target"
    if shutil.which("systemd-analyze"):
        (tmp_path / "dar-jax.service").write_text(unit)
        checked = subprocess.run(
            ["systemd-analyze", "verify", tmp_path / "dar-jax.service"], capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("shown", "state"),
    [
        ({"LoadState": "not-found", "ActiveState": "inactive", "ExecMainStartTimestampMonotonic": "0"}, "absent 0 0"),
        ({"ActiveState": "inactive", "ExecMainStartTimestampMonotonic": "0"}, "absent 0 0"),
        ({"ActiveState": "active"}, "running 0 0"),
        ({"ActiveState": "activating", "ExecMainStatus": "5", "NRestarts": "2"}, "running 5 2"),
        ({"ActiveState": "inactive"}, "done 0 0"),
        ({"ActiveState": "failed", "ExecMainStatus": "3"}, "ended 3 0"),
        ({"ActiveState": "failed", "ExecMainStatus": "1", "NRestarts": "20"}, "ended 1 20"),
    ],
)
def test_a_host_tells_the_state_of_its_run(shown, state, host):
    usual = {"LoadState": "loaded", "ExecMainStartTimestampMonotonic": "77", "ExecMainStatus": "0", "NRestarts": "0"}
    for name, value in (usual | shown).items():
        host.answer(f"--property={name}$", f"{name}={value}")
    assert host.run("worker/state.sh").stdout.split(" ", 1)[1].strip() == state
