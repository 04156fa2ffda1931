"""The commands in front of the real gcloud's own parser, which needs no account. Where gcloud is not there, nothing."""

import json
import os
import re
import shlex
import shutil
import subprocess

import pytest

from tests.tpu_scripts.test_docs import BLOCKS
from tests.tpu_scripts.test_dry_run import CASES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed"),
]


def test_gcloud_knows_every_command_and_flag(cloud, config, tmp_path):
    printed = [
        line
        for script, *words in CASES.values()
        for line in cloud.run(script, "--dry-run", *[config if w == "CONFIG" else w for w in words]).stdout.splitlines()
        if line.startswith("gcloud ")
    ]
    commands = sorted({_without_remote_command(shlex.split(line)) for line in printed})
    assert len(commands) > 20
    assert not _refused(commands, tmp_path)


def test_gcloud_knows_the_commands_of_the_page(shell, cloud, tmp_path):
    for block in BLOCKS:
        shell(block, image="i", OPENAI_API_KEY="k", DAR_JAX_RUN_DIR="gs://b/r")
    commands = sorted({_without_remote_command(call) for call in cloud.calls if call[0] == "gcloud"})
    assert len(commands) > 15
    assert not _refused(commands, tmp_path)


def test_a_flag_that_is_not_gclouds_is_found(tmp_path):
    assert _refused(["gcloud compute tpus queued-resources delete tldr --project=p --zone=z --forse"], tmp_path)


def _without_remote_command(words):
    # What a host shall run is no business of gcloud, and its linter would split it.
    return shlex.join(re.sub(r"^--command=.*", "--command=x", word, flags=re.DOTALL) for word in words)


def _refused(commands, folder):
    file = folder / "commands.json"
    file.write_text(json.dumps([{"command_string": command} for command in commands]))
    command = ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"]
    environment = os.environ | {"CLOUDSDK_CONFIG": str(folder / "gcloud"), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    verdicts = json.loads(done.stdout)
    assert len(verdicts) == len(commands)
    return [each["error_message"] for each in verdicts if not each["success"]]
