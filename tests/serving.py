"""`transformers serve` behind a real socket."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def serve(model: Path, scratch: Path) -> Iterator[str]:
    """Serve a model's folder, offline; give the base URL of its OpenAI protocol."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", "--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    (scratch / "hub").mkdir()
    environment = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(scratch / "hub"), "PATH": "/usr/bin:/bin"}
    with (scratch / "log").open("w") as log:
        process = subprocess.Popen([*command, str(model)], env=environment, stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def answer(base_url: str, model: Path, words: str) -> str:
    """Say these words as the user; give the model's greedy answer of at most 12 tokens."""
    question = {"role": "user", "content": words}
    body = {"model": str(model), "messages": [question], "temperature": 0, "max_tokens": 12}
    request = urllib.request.Request(
        f"{base_url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.loads(reply.read())["choices"][0]["message"]["content"]


def _wait(url: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        time.sleep(0.2)
    raise AssertionError("the server did not come up")
