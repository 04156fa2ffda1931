"""The commands in front of the real gcloud's own parser, which needs no account. Where gcloud is not there, nothing."""

import json
import os
import re
import shlex
import shutil
import subprocess

import pytest

from tests.tpu_scripts.test_dry_run import CASES

pytestmark = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")


def test_gcloud_knows_every_command_and_flag(cloud, config, tmp_path):
    printed = [
        line
        for script, *words in CASES.values()
        for line in cloud.run(script, "--dry-run", *[config if w == "CONFIG" else w for w in words]).stdout.splitlines()
        if line.startswith("gcloud ")
    ]
    commands = sorted({_without_remote_command(line) for line in printed})
    (tmp_path / "commands.json").write_text(json.dumps([{"command_string": command} for command in commands]))
    verdicts = _lint(tmp_path / "commands.json", tmp_path)
    assert len(verdicts) == len(commands) > 20
    assert not [each["error_message"] for each in verdicts if not each["success"]]


def test_a_flag_that_is_not_gclouds_is_found(tmp_path):
    command = "gcloud compute tpus queued-resources delete tldr --project=p --zone=z --forse"
    (tmp_path / "commands.json").write_text(json.dumps([{"command_string": command}]))
    assert not _lint(tmp_path / "commands.json", tmp_path)[0]["success"]


def _without_remote_command(line):
    # What a host shall run is no business of gcloud, and its linter would split it.
    words = [re.sub(r"^--command=.*", "--command=x", word, flags=re.DOTALL) for word in shlex.split(line)]
    return shlex.join(words)


def _lint(commands, folder):
    command = ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={commands}"]
    environment = os.environ | {"CLOUDSDK_CONFIG": str(folder / "gcloud"), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)
