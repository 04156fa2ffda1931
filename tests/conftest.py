"""Eight virtual CPU devices for every test, so that sharding is real; stores for those that ask."""

import atexit
import os
import shutil
import signal
import tempfile

import jax
import pytest

from tests.fake_gcs import FakeGCS

# A run ignores SIGHUP where its parent did, as `nohup` does; tests send it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# XLA takes this for the count of cores, and no fewer threads than cores or devices: collectives of eight devices, of
# programs that run beside each other, block more than eight, and hang.
os.environ["NPROC"] = "64"
# Also in the processes that tests start, and where a TPU's compiler or a GPU is installed.
os.environ["JAX_PLATFORMS"] = "cpu"
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
# Compiling is most of what these tests do, and running what is compiled hardly anything. Later versions of XLA have
# one way to write fusions only, and end at a flag that they do not know.
_QUICK = ["--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false"]
_KNOWN = _QUICK if jax.__version_info__ < (0, 11) else _QUICK[:1]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_KNOWN])
# They compile the same few programs again and again, in both of pytest's processes.
if "DAR_JAX_TESTS_CACHE" not in os.environ:
    os.environ["DAR_JAX_TESTS_CACHE"] = cache = tempfile.mkdtemp(prefix="dar-jax-tests-")
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", os.environ["DAR_JAX_TESTS_CACHE"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


@pytest.fixture(scope="module")
def config_text(tmp_path_factory):
    """The settings of a small run, and what they name; a module may have others."""
    from tests.nano import run_text  # after jax knows its devices

    return run_text(tmp_path_factory.mktemp("nano"))


@pytest.fixture(scope="session")
def gcs_server():
    with FakeGCS() as server:
        yield server


@pytest.fixture
def gcs(gcs_server, monkeypatch):
    """Google Cloud Storage with one empty bucket, for the drivers of this process; gcsfs remembers the first server."""
    for name, value in gcs_server.environment.items():
        monkeypatch.setenv(name, value)
    gcs_server.reset("bucket")
    return gcs_server


@pytest.fixture(params=["file", "gs"])
def url(request, tmp_path):
    """A place for a run, on each kind of store."""
    if request.param == "file":
        return f"file://{tmp_path}/runs/x"
    request.getfixturevalue("gcs")
    return "gs://bucket/runs/x"
