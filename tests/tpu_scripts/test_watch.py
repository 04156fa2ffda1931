"""A run that loses its hosts gets new ones and goes on, until it is over."""

import pytest

WATCH = ["watch.sh", "CONFIG", "--topology", "v5e:2x4", "--spot", "--run-dir", "gs://b/r"]
LOOK = ["list", "list", "ssh state.sh"]
BRING_UP = [
    "ssh systemctl disable",
    "status",
    "archive",
    "scp",
    "ssh install.sh",
    "ssh preflight.py",
    "ssh collective.py",
]
BRING_UP += ["scp", "ssh start.sh"]
DELETE = ["list", "delete"]


@pytest.fixture
def watch(cloud, config):
    def run(*words, states, runs=("h running 0 0",), slices="tldr READY HEALTHY", status=0):
        cloud.answer("queued-resources list", *states)
        cloud.answer("tpu-vm list", *([slices] if isinstance(slices, str) else slices))
        cloud.answer("state.sh", *runs)
        cloud.answer("preflight.py", "h 1a2b")
        cloud.answer("rev-parse", "0123abc")
        words = [config if word == "CONFIG" else word for word in [*WATCH, *words]]
        return cloud.run(*words, status=status).stderr

    return run


def test_from_nothing_to_the_end(watch, cloud):
    watch(states=["", "ACCEPTED", "ACTIVE"], runs=["h absent 0 0", "h running 0 0", "h running 0 1", "h done 0 1"])
    create = ["create", "list", "list"]
    assert cloud.deeds == ["rev-parse", "list", *create, *LOOK, *BRING_UP, *LOOK, *LOOK, *LOOK, *DELETE]


@pytest.mark.parametrize("lost", ["SUSPENDED", "FAILED"])
def test_a_preempted_tpu_is_made_again_and_the_run_goes_on(lost, watch, cloud):
    """The states of a queued resource whose spot slice was taken away."""
    states = ["ACTIVE", "SUSPENDING", lost, lost, "PROVISIONING", "ACTIVE"]
    watch(states=states, runs=["h running 0 0", "h absent 0 0", "h done 0 0"])
    again = [*DELETE, "create", "list", "list"]
    expected = ["rev-parse", *LOOK, "list", "list", *again, *LOOK, *BRING_UP, *LOOK, *DELETE]
    assert cloud.deeds == expected
    assert ["--spot" in call for call in cloud.calls if "create" in call] == [True]
    assert cloud.calls[expected.index("delete")][-2:] == ["--force", "--quiet"]


def test_a_preempted_tpu_vm_is_made_again(watch, cloud):
    slices = ["READY", "tldr READY HEALTHY", "PREEMPTED", "PREEMPTED", "READY", "tldr READY HEALTHY"]
    watch("--direct", states=[], slices=slices, runs=["h running 0 0", "h done 0 0"])
    assert cloud.deeds == ["rev-parse", *LOOK, "list", *DELETE, "create", *LOOK, *DELETE]


def test_every_host_ever_made_gets_the_same_commit(watch, cloud):
    watch(states=["ACTIVE"], runs=["h absent 0 0", "h running 0 0", "h absent 0 0", "h done 0 0"])
    assert [call[-1] for call in cloud.calls if "archive" in call] == ["0123abc", "0123abc"]


def test_a_slice_that_is_replaced_by_the_service_is_installed_and_all_launched(watch, cloud):
    """Cloud TPU itself repairs a slice of several: the hosts of the other one still run something."""
    both, one = "tldr-0 READY HEALTHY\ntldr-1 READY HEALTHY", "tldr-0 READY HEALTHY\ntldr-1 CREATING"
    watch(
        "--slices", "2", states=["ACTIVE"], slices=[both, one, both], runs=["a running 0 0\nb absent 0 0", "a done 0 0"]
    )
    assert cloud.deeds == ["rev-parse", *LOOK, *BRING_UP, "list", "list", *LOOK, *DELETE]


def test_a_slice_that_stays_away_has_all_replaced(watch, cloud):
    one = "tldr-0 READY HEALTHY\ntldr-1 PREEMPTED"
    both = "tldr-0 READY HEALTHY\ntldr-1 READY HEALTHY"
    words = ["--slices", "2", "--patience", "3"]
    watch(*words, states=["ACTIVE"], slices=[one, one, one, both], runs=["a done 0 0"])
    assert cloud.deeds == ["rev-parse", *["list", "list"] * 3, *DELETE, "create", "list", *LOOK, *DELETE]


@pytest.mark.parametrize("silent", ["", ("", 255)], ids=["left out", "unreachable"])
def test_hosts_without_an_answer_are_neither_absent_nor_replaced(silent, watch, cloud):
    """They may be silent for reasons of the watching machine's own, such as a key that is not loaded."""
    told = watch("--patience", "2", states=["ACTIVE"], runs=[*[silent] * 5, "h done 0 0"])
    assert told.count("the hosts do not answer") == 5
    assert cloud.deeds == ["rev-parse", *LOOK * 6, *DELETE]


def test_slices_that_cannot_be_asked_for_are_not_taken_for_lost(watch, cloud):
    silent = ("", 1)
    watch("--patience", "2", states=["ACTIVE"], slices=[*[silent] * 3, "tldr READY HEALTHY"], runs=["h done 0 0"])
    assert cloud.deeds == ["rev-parse", *["list"] * 6, *LOOK, *DELETE]


def test_a_cloud_that_does_not_answer_is_asked_again(watch, cloud):
    watch(states=[("", 1), ("", 1), "ACTIVE"], runs=["h done 0 0"])
    assert cloud.deeds == ["rev-parse", "list", "list", *LOOK, *DELETE]


@pytest.mark.parametrize("status", [2, 3, 7, 1])
def test_a_run_that_gave_up_ends_the_watch_and_the_cost(status, watch, cloud):
    told = watch(states=["ACTIVE"], runs=[f"a ended {status} 0\nb ended {status} 0"], status=status)
    assert f"the run is over, status {status}" in told
    assert cloud.deeds == ["rev-parse", *LOOK, *DELETE]


@pytest.mark.parametrize("status", [5, 15, 143])
def test_a_run_that_was_stopped_keeps_its_tpu(status, watch, cloud):
    assert "still there, and billed" in watch(states=["ACTIVE"], runs=[f"h ended {status} 0"], status=status)
    assert "delete" not in cloud.deeds


def test_the_tpu_can_be_kept(watch, cloud):
    assert "still there, and billed" in watch("--keep", states=["ACTIVE"], runs=["h done 0 0"])
    assert "delete" not in cloud.deeds


def test_one_host_that_still_runs_keeps_the_run_going(watch, cloud):
    watch(states=["ACTIVE"], runs=["a done 0 0\nb running 0 0", "a done 0 0\nb done 0 0"])
    assert cloud.deeds == ["rev-parse", *LOOK, *LOOK, *DELETE]


def test_what_cannot_be_brought_up_is_given_back(watch, cloud):
    cloud.answer("collective.py", ("", 1))
    told = watch(states=["ACTIVE"], runs=["h absent 0 0"], status=1)
    assert "it could not be brought up" in told
    assert cloud.deeds.count("ssh collective.py") == 5
    assert cloud.deeds[-1] == "delete"
    assert "ssh start.sh" not in cloud.deeds


def test_a_queue_that_refuses_is_asked_again(watch, cloud):
    cloud.answer("create", ("", 1), "")
    watch(states=["", "", "ACTIVE"], runs=["h done 0 0"])
    assert cloud.deeds == ["rev-parse", "list", "create", "list", "create", "list", *LOOK, *DELETE]
