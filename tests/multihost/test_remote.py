"""One run folder under a URL for two hosts: a signal to one, a resume on both, another on one."""

import json

import pytest

from dar_jax.runlog import RemoteFolder
from dar_jax.runlog.objects import Objects
from dar_jax.training import resume
from tests.fake_gcs import NEEDS_GCSFS
from tests.multihost.processes import TRAIN, start, until
from tests.multihost.test_training import BILLS, CLOCKS, assert_same

pytestmark = pytest.mark.slow


def paid(url):
    """Return the keys of the answers that each process has paid for."""
    store, keys = Objects(f"{url}/ledger"), {"0": set(), "1": set()}
    for name, content in store.read_each(store.names()):
        keys[name.partition("/")[0]] |= {json.loads(line)["key"] for line in content.splitlines()}
    return keys


@pytest.mark.parametrize("place", ["file", pytest.param("gs", marks=NEEDS_GCSFS)])
def test_two_hosts_share_a_folder_under_a_url(request, config, alone, tmp_path, place):
    url = f"file://{tmp_path}/x" if place == "file" else request.getfixturevalue("gcs") and "gs://bucket/runs/x"
    hosts = start(TRAIN, [str(config), "--run-dir", url], tmp_path)
    until(lambda: RemoteFolder(url).read("metrics"), hosts)
    hosts.processes[1].terminate()
    assert hosts.wait(120) == [5, 5], hosts.said(0) + hosts.said(1)
    before = paid(url)
    assert all(before.values())
    again = start(TRAIN, ["--resume", url], tmp_path / "again")
    assert again.wait() == [0, 0], again.said(0) + again.said(1)
    assert_same(RemoteFolder(url), alone, CLOCKS + BILLS)
    # Neither asks for what the other had paid for.
    assert not (paid(url)["0"] - before["0"]) & before["1"]
    assert not (paid(url)["1"] - before["1"]) & before["0"]
    both = paid(url)
    resume(url, ["mesh.devices=4", "display.mode=quiet", "steps=3"])
    assert [row["step"] for row in RemoteFolder(url).read("metrics")] == [1, 2, 3]
    assert not (paid(url)["0"] - both["0"]) & both["1"]


def test_a_run_that_was_taken_over_ends_on_all_hosts_with_the_reason(config, tmp_path):
    url = f"file://{tmp_path}/x"
    hosts = start(TRAIN, [str(config), "--run-dir", url], tmp_path)
    until(lambda: RemoteFolder(url).read("completions"), hosts)
    RemoteFolder.reopen(url).forget_after(0, completions=0)
    assert hosts.wait(120) == [1, 1]
    for host in (0, 1):
        assert f"{url}: another run has taken this folder over" in hosts.last(host)
