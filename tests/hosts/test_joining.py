"""Where a process learns of the others: flags, the environment, a TPU's surroundings."""

import http.server
import threading

import pytest

from dar_jax.cli.main import main
from dar_jax.errors import SettingError
from dar_jax.hosts import Joining, find
from dar_jax.hosts.joining import tpu_processes
from dar_jax.hosts.rendezvous import Store


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in ("COORDINATOR", "PROCESSES", "PROCESS", "START_TIMEOUT", "LOST_AFTER"):
        monkeypatch.delenv(f"DAR_JAX_{name}", raising=False)


@pytest.fixture
def tpu(tmp_path):
    """The devices of a machine with a TPU."""
    for slot, vendor in (("0000:00:04.0", "0x8086"), ("0000:00:05.0", "0x1ae0")):
        (tmp_path / slot).mkdir()
        (tmp_path / slot / "vendor").write_text(f"{vendor}\n")
    return tmp_path


@pytest.fixture
def metadata():
    """A metadata server that lists the workers of a pod, as Cloud TPU's does."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.path.endswith("/attributes/worker-network-endpoints") and self.headers["Metadata-Flavor"]
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(b"a:0:10.0.0.1,b:1:10.0.0.2,c:2:10.0.0.3,d:3:10.0.0.4")

        def log_message(self, *_):
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_process_alone_joins_nobody():
    assert find() is None
    assert find("here:1", 1, 0) is None


def test_flags_and_environment_say_the_same(monkeypatch):
    expected = Joining(coordinator="10.0.0.1:1234", processes=4, process=2, start_timeout_s=7, lost_after_s=9)
    assert find("10.0.0.1:1234", 4, 2, 7, 9) == expected
    said = {"COORDINATOR": "10.0.0.1:1234", "PROCESSES": 4, "PROCESS": 3, "START_TIMEOUT": 7, "LOST_AFTER": 9}
    for name, value in said.items():
        monkeypatch.setenv(f"DAR_JAX_{name}", str(value))
    assert find(process=2) == expected


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("h:1", 2, None), "give all three"),
        ((None, 2, 0), "give all three"),
        (("h", 2, 0), "--coordinator h: expected HOST:PORT"),
        (("h:1", 2, 2), "--process 2: expected 0 to 1"),
        (("h:1", 0, 0), "--processes 0: expected a whole number of 1 or more"),
        (("h:1", 2, 0, 300, 1), "--lost-after 1: expected a whole number of 4 or more"),
    ],
)
def test_a_mistake_is_named(flags, told):
    with pytest.raises(SettingError, match=told):
        find(*flags)


def test_a_mistake_in_the_environment_is_named_and_ends_the_verb(monkeypatch, capsys):
    monkeypatch.setenv("DAR_JAX_PROCESSES", "two")
    assert main(["train", "run.yaml"]) == 2
    assert "DAR_JAX_PROCESSES two: expected a whole number" in capsys.readouterr().err


def test_a_machine_without_a_tpu_asks_nobody(tmp_path):
    assert tpu_processes({"TPU_WORKER_HOSTNAMES": "a,b", "GCE_METADATA_IP": "127.0.0.1:1"}, tmp_path) == 1


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({"TPU_WORKER_HOSTNAMES": "a,b,c,d"}, 4),
        ({"TPU_PROCESS_ADDRESSES": "a:1,b:1", "TPU_WORKER_HOSTNAMES": "a"}, 2),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "MEGASCALE_NUM_SLICES": "2"}, 4),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, 1),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": "cpu"}, 1),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": ""}, 2),
        ({"TPU_SKIP_MDS_QUERY": "1"}, 1),
        ({"GCE_METADATA_IP": "127.0.0.1:1"}, 1),
    ],
)
def test_what_surrounds_a_tpu_says_how_many(tpu, environment, count):
    assert tpu_processes(environment, tpu) == count


def test_a_cloud_tpu_vm_asks_its_metadata_server(tpu, metadata):
    assert tpu_processes({"GCE_METADATA_IP": metadata}, tpu) == 4


def test_what_is_used_of_jaxs_private_parts_is_there():
    """jax gives its distributed client no public name; where it moves, `hosts.joined` has to follow."""
    from jax._src import distributed
    from jax._src.lib import _jax

    state = type(distributed.global_state)
    assert {"client", "process_id", "num_processes", "coordinator_address"} <= vars(state).keys()
    used = {name for name in vars(Store) if name.startswith("key_value")}
    assert len(used) == 3
    assert used <= set(dir(_jax.DistributedRuntimeClient))
