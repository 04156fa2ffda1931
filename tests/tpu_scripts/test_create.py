import pytest

WHERE = ["--project=my-project", "--zone=us-west4-a"]
SCOPES = "--scopes=https://www.googleapis.com/auth/cloud-platform"
QUEUED = ["gcloud", "compute", "tpus", "queued-resources", "create", "tldr"]


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ("v5e:2x4", ["--runtime-version=v2-alpha-tpuv5-lite", "--accelerator-type=v5litepod-8"]),
        ("v5e:16x16", ["--runtime-version=v2-alpha-tpuv5-lite", "--accelerator-type=v5litepod-256"]),
        ("v6e:4x4", ["--runtime-version=v2-alpha-tpuv6e", "--accelerator-type=v6e-16"]),
        # Cloud TPU counts the cores of these two, two a chip.
        ("v5p:4x4x4", ["--runtime-version=v2-alpha-tpuv5", "--accelerator-type=v5p-128"]),
        ("v4:2x2x4", ["--runtime-version=tpu-ubuntu2204-base", "--type=v4", "--topology=2x2x4"]),
    ],
)
def test_a_topology_is_asked_for_by_its_name_and_image(words, flags, cloud):
    cloud.run("create.sh", "--no-wait", "--topology", words)
    assert cloud.calls == [[*QUEUED, "--node-id=tldr", *flags, SCOPES, *WHERE]]


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["--spot"], ["--spot"]),
        (["--reserved"], ["--reserved"]),
        (["--service-account", "a@b"], ["--service-account=a@b"]),
        (["--gcloud", "--network=n", "--gcloud", "--labels=a=b"], ["--network=n", "--labels=a=b"]),
    ],
)
def test_the_kind_of_capacity(words, flags, cloud):
    cloud.run("create.sh", "--no-wait", "--topology", "v5e:2x4", *words)
    kind = ["--node-id=tldr", "--runtime-version=v2-alpha-tpuv5-lite", "--accelerator-type=v5litepod-8"]
    assert cloud.calls == [[*QUEUED, *kind, SCOPES, *WHERE, *flags]]


def test_flex_start_is_alpha(cloud):
    cloud.run("create.sh", "--no-wait", "--topology", "v5e:2x4", "--flex-start", "24h", "--runtime-version", "mine")
    (call,) = cloud.calls
    assert call[:6] == ["gcloud", "alpha", "compute", "tpus", "queued-resources", "create"]
    assert call[-2:] == ["--provisioning-model=flex-start", "--max-run-duration=24h"]
    assert "--runtime-version=mine" in call


def test_several_slices_are_nodes_of_one_request(cloud):
    cloud.run("create.sh", "--no-wait", "--topology", "v5e:4x4", "--slices", "2")
    assert cloud.calls[0][6:8] == ["--node-count=2", "--node-prefix=tldr"]


def test_direct_makes_a_tpu_vm(cloud):
    cloud.run("create.sh", "--direct", "--topology", "v6e:2x2", "--spot")
    flags = ["--version=v2-alpha-tpuv6e", "--accelerator-type=v6e-4", SCOPES, *WHERE, "--spot"]
    assert cloud.calls == [["gcloud", "compute", "tpus", "tpu-vm", "create", "tldr", *flags]]


def test_it_waits_until_the_request_is_active(cloud):
    cloud.answer("list", "ACCEPTED", "WAITING_FOR_RESOURCES", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
    told = cloud.run("create.sh", "--topology", "v5e:2x4").stderr
    assert cloud.deeds == ["create", *["list"] * 5]
    assert told.splitlines() == [
        f"tldr: {state}" for state in ("ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
    ]


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED", ""])
def test_a_request_that_will_not_be_met_is_an_error(state, cloud):
    cloud.answer("list", "ACCEPTED", state)
    assert f"tldr is {state or 'gone'}; delete.sh" in cloud.run("create.sh", "--topology", "v5e:2x4", status=2).stderr


def test_a_refusal_is_passed_on(cloud):
    cloud.answer("create", ("", 7))
    cloud.run("create.sh", "--topology", "v5e:2x4", status=7)
    assert cloud.deeds == ["create"]
