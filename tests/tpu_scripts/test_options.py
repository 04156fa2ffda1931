"""What every script does with its options, before it runs anything."""

import pytest

from tests.tpu_scripts.stand_in import SCRIPTS

STARTED = sorted(path.name for path in SCRIPTS.glob("*.sh") if path.read_text().startswith("#!"))
ON_A_TPU = ["create.sh", "delete.sh", "launch.sh", "logs.sh", "setup.sh", "status.sh", "stop.sh", "watch.sh"]


def test_these_are_the_scripts():
    assert sorted([*ON_A_TPU, "fetch.sh", "gke.sh"]) == STARTED


@pytest.mark.parametrize("script", STARTED)
def test_help_shows_the_commands_and_every_option(script, cloud):
    shown = cloud.run(script, "--help").stdout
    assert f"tpu_scripts/{script}" in shown
    assert "--dry-run" in shown
    assert "set -euo pipefail" in (SCRIPTS / script).read_text()
    assert not cloud.calls


@pytest.mark.parametrize("script", ON_A_TPU)
@pytest.mark.parametrize("option", ["project", "zone", "name"])
def test_there_is_no_default_project_zone_or_name(script, option, cloud, config):
    variable = f"DAR_JAX_{option.upper()}"
    del cloud.environment[variable]
    told = cloud.run(script, config, status=2).stderr
    assert told == f"{script}: --{option} is missing; give it, or set {variable}\n"
    assert not cloud.calls


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("launch.sh CONFIG", "--run-dir is missing; give it, or set DAR_JAX_RUN_DIR"),
        ("fetch.sh here", "--run-dir is missing; give it, or set DAR_JAX_RUN_DIR"),
        ("gke.sh CONFIG", "--topology is missing"),
        ("gke.sh CONFIG --topology v5e:2x4", "--image is missing"),
        ("gke.sh CONFIG --topology v5e:2x4 --image i --run-dir gs://b/r --chips-per-host 3", "has 8 chips"),
        ("watch.sh CONFIG --run-dir gs://b/r", "--topology is missing"),
        ("watch.sh CONFIG --run-dir gs://b/r --topology v5p:4x4x1", "Cloud TPU makes v5p slices of the shapes"),
        ("create.sh", "--topology is missing"),
        ("create.sh --topology v5e:2x2x2", "expected GENERATION:SHAPE"),
        ("create.sh --topology v4:2x2", "expected GENERATION:SHAPE"),
        ("create.sh --topology v9:2x2", "expected GENERATION:SHAPE"),
        ("create.sh --topology v5e", "expected GENERATION:SHAPE"),
        ("create.sh --topology v5e:2x", "expected GENERATION:SHAPE"),
        ("create.sh --topology v5e:2x4 --slices 2 --direct", "leave --direct out"),
        ("create.sh --topology v5e:2x4 --flex-start 24h --direct", "leave --direct out"),
        ("create.sh --topolgy v5e:2x4", "--topolgy: there is no such option; see create.sh --help"),
        ("create.sh --topology", "--topology: a value must follow"),
        ("launch.sh --run-dir gs://b/r", "expected one CONFIG, got: nothing"),
        ("launch.sh CONFIG steps=3 --run-dir gs://b/r", "overrides stand behind --"),
        ("launch.sh nowhere.yaml --run-dir gs://b/r", "nowhere.yaml: there is no such config file"),
        ("launch.sh CONFIG --run-dir runs/a", "expected gs://BUCKET/FOLDER"),
        ("launch.sh CONFIG --run-dir gs://bucket", "expected gs://BUCKET/FOLDER"),
        ("launch.sh CONFIG --run-dir gs://b/a|b", "only letters, digits and"),
        ("launch.sh CONFIG --run-dir gs://b/r --secret OPENAI_API_KEY", "expected VARIABLE=NAME"),
        ("launch.sh CONFIG --run-dir gs://b/r --secret key=name", "expected VARIABLE=NAME"),
        ("launch.sh CONFIG --run-dir gs://b/r --env OPENAI_API_KEY=sk-1", "a key comes by --secret"),
        ("launch.sh CONFIG --run-dir gs://b/r --env x", "expected VARIABLE=VALUE"),
        ("fetch.sh --run-dir gs://b/r", "expected one folder to copy to"),
    ],
)
def test_a_mistake_is_one_line_and_status_2_before_anything_runs(words, said, cloud, config):
    told = cloud.run(*[config if word == "CONFIG" else word for word in words.split()], status=2).stderr
    assert said in told
    assert len(told.splitlines()) == 1
    assert not cloud.calls


def test_options_come_from_the_environment_and_the_command_line_counts(cloud):
    cloud.environment |= {"DAR_JAX_TOPOLOGY": "v5e:2x4", "DAR_JAX_SPOT": "1", "DAR_JAX_SLICES": "2"}
    shown = cloud.run("create.sh", "--no-wait", "--dry-run", "--slices=3").stdout
    assert "--accelerator-type=v5litepod-8" in shown
    assert "--spot" in shown
    assert "--node-count=3" in shown
