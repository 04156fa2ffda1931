"""A key is nowhere but in the environment of the run: not in a command, not in what is printed, not in a message."""

import pytest

KEYS = {"OPENAI_API_KEY": "sk-planted-openai", "GEMINI_API_KEY": "AIzaPlantedGemini", "HF_TOKEN": "hf_planted"}
NAMES = [f"--secret={variable}=name-of-{variable.lower()}" for variable in KEYS]
SCRIPTS = {
    "create": ["create.sh", "--topology", "v5e:2x4"],
    "setup": ["setup.sh"],
    "launch": ["launch.sh", "CONFIG", "--run-dir", "gs://b/r", *NAMES],
    "status": ["status.sh"],
    "logs": ["logs.sh"],
    "fetch": ["fetch.sh", "--run-dir", "gs://b/r", "here"],
    "stop": ["stop.sh"],
    "delete": ["delete.sh"],
    "watch": ["watch.sh", "CONFIG", "--topology", "v5e:2x4", "--run-dir", "gs://b/r", *NAMES],
    "gke": ["gke.sh", "CONFIG", "--topology", "v5e:2x4", "--image", "i", "--run-dir", "gs://b/r", *NAMES],
}


@pytest.mark.parametrize("dry", [True, False], ids=["dry", "real"])
@pytest.mark.parametrize("words", SCRIPTS.values(), ids=SCRIPTS)
def test_no_key_is_in_a_command_or_in_the_output(words, dry, cloud, config):
    cloud.add("mkdir")
    cloud.answer("queued-resources list", "ACTIVE")
    cloud.answer("tpu-vm list", "tldr READY HEALTHY")
    cloud.answer("preflight.py", "host-0 1a2b")
    cloud.answer("state.sh", "host-0 done 0 0")
    cloud.environment |= KEYS
    script, *words = [config if word == "CONFIG" else word for word in words]
    done = cloud.run(script, *["--dry-run"] * dry, *words)
    seen = done.stdout + done.stderr + cloud.input + str(cloud.calls)
    assert not [value for value in KEYS.values() if value in seen]


@pytest.mark.parametrize("value", KEYS.values())
def test_a_key_in_place_of_a_name_is_refused_and_not_repeated(value, cloud, config):
    told = cloud.run(
        "launch.sh", config, "--run-dir", "gs://b/r", "--secret", f"OPENAI_API_KEY={value}", status=2
    ).stderr
    assert "store it in Secret Manager" in told
    assert value not in told


def test_a_key_without_a_variable_is_refused_and_not_repeated(cloud, config):
    told = cloud.run("launch.sh", config, "--run-dir", "gs://b/r", "--secret", "0123secret!", status=2).stderr
    assert "expected VARIABLE=NAME" in told
    assert "0123secret!" not in told
