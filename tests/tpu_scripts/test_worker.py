"""The Python that runs on a host, in front of a stand-in for Google's servers and a stand-in for dar-jax."""

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.tpu_scripts.stand_in import SCRIPTS

KEY = "sk-planted"
NAME = "projects/p/secrets/openai-key"
# In place of dar_jax/__main__.py: prints its command, and whether it has the key.
RECORDING_MAIN = """
import json, os, sys
wanted = ["OPENAI_API_KEY", "JAX_COMPILATION_CACHE_DIR", "DAR_JAX_START_TIMEOUT", "HF_HOME"]
print(json.dumps([sys.argv[1:], {name: os.environ.get(name) for name in wanted}]))
sys.exit(5)
"""


class Google(BaseHTTPRequestHandler):
    """The metadata server of a host, which gives it a token, and Secret Manager, which wants it."""

    def do_GET(self):
        if "/computeMetadata/" in self.path or self.path == "/":
            token = {"access_token": "a-token", "expires_in": 3600, "token_type": "Bearer"}
            return self._reply(200, token if "token" in self.path else {"email": "trainer@p", "scopes": []})
        if self.headers["Authorization"] != "Bearer a-token":
            return self._reply(401, {})
        value = self.server.secrets.get(self.path.removeprefix("/v1/").removesuffix("/versions/latest:access"))
        if isinstance(value, int):
            return self._reply(value, {"error": {"message": KEY}})
        return self._reply(200, {"payload": {"data": base64.b64encode(value.encode()).decode()}})

    def _reply(self, status, body):
        self.send_response(status)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *words):
        """Say nothing."""


@pytest.fixture
def google():
    with ThreadingHTTPServer(("127.0.0.1", 0), Google) as server:
        server.secrets = {NAME: f"{KEY}\n"}
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def worker(google, tmp_path):
    """Run a file of worker/ as a host does; return the process that ended."""
    address = f"127.0.0.1:{google.server_port}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GOOGLE_", "OPENAI_"))}
    environment |= {
        "GCE_METADATA_HOST": address,
        "GCE_METADATA_IP": address,
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER": f"http://{address}/",
        "CLOUDSDK_CONFIG": str(tmp_path / "no-gcloud"),
        "PATH": f"{tmp_path}:/usr/bin:/bin",
    }

    def run(file, *words, **more):
        command = [sys.executable, str(SCRIPTS / "worker" / file), *words]
        options = {"cwd": tmp_path, "env": environment | more, "timeout": 120}
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)

    return run


@pytest.fixture
def recording(tmp_path):
    """A PYTHONPATH with a dar_jax that tells how it was called, and the real one's errors and layer to the bucket."""
    package = tmp_path / "stand-in" / "dar_jax"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(RECORDING_MAIN)
    for name in ("errors.py", "runlog", "settings", "terminal"):
        (package / name).symlink_to(SCRIPTS.parent / "dar_jax" / name)
    return {"PYTHONPATH": str(package.parent)}


def test_a_run_starts_then_goes_on_with_the_key_in_its_environment(worker, recording, tmp_path):
    run = (tmp_path / "run").as_uri()
    words = ["--run-dir", run, "--config", "../config.yaml", "--compile-cache", "gs://b/cache", "--start-timeout", "7"]
    words += ["--secret", f"OPENAI_API_KEY={NAME}", "--env", "HF_HOME=/dev/shm/a=b", "--", "steps=5", "note=--x"]
    environment = {"OPENAI_API_KEY": KEY, "JAX_COMPILATION_CACHE_DIR": "gs://b/cache", "DAR_JAX_START_TIMEOUT": "7"}
    environment["HF_HOME"] = "/dev/shm/a=b"
    done = worker("run.py", *words, **recording)
    assert done.returncode == 5, done.stderr
    started = ["train", "../config.yaml", "--run-dir", run, "steps=5", "note=--x"]
    assert json.loads(done.stdout) == [started, environment]
    assert KEY not in done.stderr
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("steps: 5\n")
    went_on = ["train", "--resume", run, "steps=5", "note=--x"]
    assert json.loads(worker("run.py", *words, **recording).stdout) == [went_on, environment]


def test_a_key_in_the_environment_is_left_there(worker, recording, google, tmp_path):
    google.secrets[NAME] = 403
    words = ["--run-dir", (tmp_path / "run").as_uri(), "--config", "c", "--secret", f"OPENAI_API_KEY={NAME}"]
    done = worker("run.py", *words, OPENAI_API_KEY="mine", **recording)
    environment = json.loads(done.stdout)[1]
    assert environment["OPENAI_API_KEY"] == "mine"
    assert environment["JAX_COMPILATION_CACHE_DIR"] is None


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (403, 2, "roles/secretmanager.secretAccessor"),
        (404, 2, "it must have a version"),
        (503, 1, "answers 503"),
        (" ", 2, "it is empty in Secret Manager"),
    ],
)
def test_a_secret_that_cannot_be_had_keeps_the_run_from_starting(answer, status, said, worker, google, tmp_path):
    """Status 2 is for what a restart cannot mend, 1 for what it can."""
    google.secrets[NAME] = answer
    words = ["--run-dir", (tmp_path / "run").as_uri(), "--config", "c", "--secret", f"OPENAI_API_KEY={NAME}"]
    done = worker("run.py", *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert KEY not in done.stderr


def _systemctl(tmp_path, state):
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\necho ActiveState={state}\n")
    (tmp_path / "systemctl").chmod(0o755)


def test_a_host_that_is_ready_prints_its_name_and_a_digest(worker, tmp_path):
    _systemctl(tmp_path, "inactive")
    words = ["--run-dir", (tmp_path / "runs" / "tldr").as_uri(), "--secret", f"OPENAI_API_KEY={NAME}"]
    first, second = (worker("preflight.py", *words) for _ in range(2))
    assert first.returncode == 0, first.stderr
    _, digest = first.stdout.split()
    assert digest == second.stdout.split()[1]
    assert len(digest) == 16
    assert not (tmp_path / "runs" / "tldr").exists()  # dar-jax starts in an empty folder only
    assert not list((tmp_path / "runs" / "tldr.hosts").iterdir())


def test_the_digest_tells_another_source(worker, recording, tmp_path):
    _systemctl(tmp_path, "inactive")
    words = ["preflight.py", "--run-dir", (tmp_path / "run").as_uri()]
    one = worker(*words, **recording).stdout.split()[1]
    (tmp_path / "stand-in" / "dar_jax" / "new.py").write_text("x = 1\n")
    assert worker(*words, **recording).stdout.split()[1] != one


@pytest.mark.parametrize(
    ("state", "answer", "status", "said"),
    [
        ("active", KEY, 1, "a run is under way"),
        ("activating", KEY, 1, "a run is under way"),  # it waits to be started again
        ("failed", 403, 2, "roles/secretmanager.secretAccessor"),
    ],
)
def test_a_host_that_is_not_ready_says_why(state, answer, status, said, worker, google, tmp_path):
    _systemctl(tmp_path, state)
    google.secrets[NAME] = answer
    done = worker("preflight.py", "--run-dir", (tmp_path / "run").as_uri(), "--secret", f"OPENAI_API_KEY={NAME}")
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr


def test_a_bucket_that_cannot_be_written_is_named(worker, tmp_path):
    _systemctl(tmp_path, "inactive")
    (tmp_path / "run.hosts").write_text("in the way")
    done = worker("preflight.py", "--run-dir", (tmp_path / "run").as_uri())
    assert done.returncode == 1
    assert f"{(tmp_path / 'run.hosts').as_uri()}/preflight-" in done.stderr
    assert "choose a place that can be read and written" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_log_is_kept_beside_the_run_folder(tmp_path):
    run = (tmp_path / "run").as_uri()
    subprocess.run([sys.executable, str(SCRIPTS / "worker" / "keep_log.py"), run], input=b"said\n", check=True)
    (log,) = (tmp_path / "run.hosts").iterdir()
    assert log.read_text() == "said\n"
