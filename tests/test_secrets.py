"""A key is planted, and looked for in everything that is written, said or raised, by servers too that give it away."""

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from dar_jax.chat.scripted.server import ServerSettings, serve
from dar_jax.cli.main import main
from dar_jax.runlog import RunFolder
from tests.nano import run_text
from tests.wires import WIRES

# With a character that JSON and URLs write otherwise.
KEY = 'sk-planted/7f3"9c41d6e5'
FORMS = [KEY, json.dumps(KEY)[1:-1], "sk-planted%2F7f3%229c41d6e5", "9c41d6e5"]
BOLD = ServerSettings(port=0, faults={"bad_key": 0.4}, seed=2)


@pytest.fixture(params=["env", "file"])
def planted(request, tmp_path, monkeypatch):
    """Name the source of the key as settings do; it lies outside of what is searched."""
    if request.param == "env":
        monkeypatch.setenv("PLANTED_KEY", KEY)
        return "api_key_env: PLANTED_KEY"
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    return f"api_key_file: {file}"


def assert_nowhere(folder: Path, *said: str) -> None:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found
    for name, content in [*found.items(), *((f"said {i}", text.encode()) for i, text in enumerate(said))]:
        for form in FORMS:
            assert form.encode() not in content, f"{form} in {name}"


def told(server) -> None:
    """Make sure that the server was given the key: else nothing could have leaked."""
    assert server.keys == {KEY}


@pytest.mark.slow
@pytest.mark.parametrize("planted", ["env"], indirect=True)
def test_a_run_writes_says_and_logs_no_key(planted, tmp_path, capfd, caplog):
    caplog.set_level("DEBUG")
    text, folder = run_text(tmp_path / "nano"), tmp_path / "runs" / "whole"
    judge = f"judge: {{name: openai, model: m, base_url: URL, {planted}, max_failure_share: 1.0}}"
    lines = [judge if "judge:" in line else line for line in text.splitlines() if "evaluation" not in line]
    with serve(BOLD) as server:
        (tmp_path / "run.yaml").write_text("\n".join(map(str.strip, lines)).replace("URL", server.openai_url))
        overrides = ["steps=1", "display.mode=json", "checkpoints.within_step=false"]
        assert main(["train", str(tmp_path / "run.yaml"), *overrides, "--run-dir", str(folder)]) == 0
        told(server)
    run, shown = RunFolder(folder), capfd.readouterr()
    reasons = [row["reason"] for row in run.read("completions") if row["verdict"] == "failed"]
    assert reasons
    assert all("incorrect API key provided: Bearer ***" in reason for reason in reasons)
    assert (folder / "ledger.sqlite").stat().st_size > 10_000
    assert list((folder / "checkpoints").rglob("*"))
    assert_nowhere(folder, shown.out, shown.err, caplog.text)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(("share", "planted"), [(0.4, "env"), (1.0, "file")], indirect=["planted"])
def test_dar_jax_judge_says_no_key(wire, share, planted, tmp_path, capfd, caplog):
    """Whether it ends well or with status 3, whose message quotes what the server said."""
    caplog.set_level("DEBUG")
    folder = tmp_path / "judged"
    folder.mkdir()
    rows = [{"prompt": "Say it.", "completion": f"It is said {i} times."} for i in range(12)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serve(ServerSettings(port=0, faults={"bad_key": share}, seed=1)) as server:
        place = f"name: openai, base_url: {server.openai_url}"
        if wire != "openai":
            place = f"name: gemini, sdk: {wire}, base_url: {server.url}"
        judge = f"judge: {{{place}, model: m, mode: single, max_failure_share: 0.9, attempts: 2, {planted}}}\n"
        (tmp_path / "run.yaml").write_text(judge)
        given = ["--input", str(tmp_path / "in.jsonl"), "--output", str(folder / "out.jsonl")]
        status = main(["judge", str(tmp_path / "run.yaml"), *given])
        told(server)
    shown = capfd.readouterr()
    assert status == (3 if share == 1 else 0)
    assert "***" in (shown.err if status else (folder / "out.jsonl").read_text())
    assert_nowhere(folder, shown.out, shown.err, caplog.text)


def test_dar_jax_serve_says_no_key(tmp_path):
    """It repeats a key to whoever sent it, and to nobody else."""
    command = [sys.executable, "-m", "dar_jax", "serve", "port=0", "faults={bad_key: 1.0}"]
    with (tmp_path / "said").open("w") as log, contextlib.ExitStack() as ended:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ)
        ended.callback(process.wait, 10)
        ended.callback(process.terminate)
        first = process.stdout.readline()
        url = first.split(" OpenAI at ")[1].split(",")[0]
        asked = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
        headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
        request = urllib.request.Request(f"{url}/chat/completions", json.dumps(asked).encode(), headers)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=10)
        assert KEY in json.loads(caught.value.read())["error"]["message"]
        caught.value.close()
    rest = process.stdout.read()
    process.stdout.close()
    (tmp_path / "first").write_text(first)
    assert_nowhere(tmp_path, first, rest)
