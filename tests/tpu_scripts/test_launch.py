import pytest

from tests.tpu_scripts.stand_in import SCRIPTS

RUN = ["--run-dir", "gs://b/runs/tldr/", "--secret", "OPENAI_API_KEY=openai-key"]
SSH = ["gcloud", "compute", "tpus", "queued-resources", "ssh", "tldr", "--node=all", "--worker=all"]
FLAGS = [
    *["--project=my-project", "--zone=us-west4-a", "--quiet"],
    *["--ssh-flag=-oConnectTimeout=30", "--ssh-flag=-oServerAliveInterval=30"],
]
WORKER = "/opt/dar_jax/source/tpu_scripts/worker"


def _command(call):
    return next(word.removeprefix("--command=") for word in call if word.startswith("--command="))


def test_setup_sends_the_committed_files_to_every_host(cloud):
    cloud.run("setup.sh")
    archive = "/tmp/dar_jax-tldr.tar.gz"
    _, pack, send, install = cloud.calls
    assert pack == [
        *["git", "-C", f"{SCRIPTS}/..", "archive", "--format=tar.gz", f"--output={archive}", "HEAD"],
    ]
    assert send[:6] == ["gcloud", "compute", "tpus", "queued-resources", "scp", archive]
    assert send[6:10] == ["tldr:dar_jax.tar.gz", "--node=all", "--batch-size=all", "--worker=all"]
    assert install[:8] == SSH
    own = 'sudo mkdir -p /opt/dar_jax && sudo chown -R "$(id -un)" /opt/dar_jax'
    unpack = "rm -rf /opt/dar_jax/source && mkdir /opt/dar_jax/source && tar -xzf dar_jax.tar.gz -C /opt/dar_jax/source"
    assert _command(install) == f"{own} && {unpack} && bash {WORKER}/install.sh"


def test_setup_says_that_it_sends_what_is_committed(cloud):
    cloud.answer("status", " M dar_jax/training.py", "")
    assert "they are not sent" in cloud.run("setup.sh").stderr
    assert not cloud.run("setup.sh").stderr


def test_launch_checks_then_starts_on_every_host(cloud, config):
    cloud.answer("preflight", "host-0 1a2b\nhost-1 1a2b")
    cloud.run("launch.sh", config, *RUN, "--env", "LIBTPU_INIT_ARGS=--a=1 --b=2", "--", "steps=5")
    secret = "--secret OPENAI_API_KEY=projects/my-project/secrets/openai-key"
    told = f"--run-dir gs://b/runs/tldr --compile-cache gs://b/compile-cache --start-timeout 1800 {secret}"
    variable = "--env 'LIBTPU_INIT_ARGS=--a=1 --b=2'"
    python = f"/opt/dar_jax/venv/bin/python {WORKER}"
    check, collective, send, start = cloud.calls
    assert check == [*SSH, f"--command={python}/preflight.py --run-dir gs://b/runs/tldr {secret}", *FLAGS, *check[-1:]]
    assert _command(collective) == f"timeout -k 10 2100 {python}/collective.py --timeout 1800"
    assert send[5:7] == [config, "tldr:dar_jax.yaml"]
    start_words = f"gs://b/runs/tldr {told} {variable} --config /opt/dar_jax/config.yaml -- steps=5"
    copy = "cp dar_jax.yaml /opt/dar_jax/config.yaml"
    assert _command(start) == f"{copy} && bash {WORKER}/start.sh {start_words}"
    # gcloud goes in batches of 64 hosts by itself, and the second would wait for the first.
    assert all("--batch-size=all" in call for call in cloud.calls)


def test_direct_reaches_a_tpu_vm(cloud, config):
    cloud.answer("preflight", "host-0 1a2b")
    cloud.run("launch.sh", config, *RUN, "--direct", "--via", "internal-ip", "--compile-cache", "none")
    assert [call[:5] for call in cloud.calls] == [
        ["gcloud", "compute", "tpus", "tpu-vm", verb] for verb in ("ssh", "ssh", "scp", "ssh")
    ]
    assert all("--internal-ip" in call and "--worker=all" in call for call in cloud.calls)
    assert "--compile-cache none" in _command(cloud.calls[-1])


def test_nothing_starts_where_hosts_differ(cloud, config):
    cloud.answer("preflight", "host-0 1a2b\nhost-1 9f9f\nhost-2 1a2b")
    told = cloud.run("launch.sh", config, *RUN, status=2).stderr
    assert "host-1 9f9f" in told
    assert "the hosts differ in what is installed" in told
    assert cloud.deeds == ["ssh preflight.py"]


def test_nothing_starts_where_no_host_answers(cloud, config):
    """gcloud leaves out hosts it cannot reach and says 0."""
    cloud.answer("preflight", "")
    cloud.run("launch.sh", config, *RUN, status=2)
    assert cloud.deeds == ["ssh preflight.py"]


@pytest.mark.parametrize(("failing", "deeds"), [("preflight.py", 1), ("collective.py", 2)])
def test_nothing_starts_where_a_check_fails(failing, deeds, cloud, config):
    cloud.answer(failing, ("", 5))
    cloud.answer("preflight", "host-0 1a2b")
    cloud.run("launch.sh", config, *RUN, status=5)
    assert len(cloud.calls) == deeds


def test_the_checks_can_be_left_out(cloud, config):
    cloud.run("launch.sh", config, *RUN, "--no-checks")
    assert cloud.deeds == ["scp", "ssh start.sh"]
