"""A dry run prints the commands of a real one, word for word, and runs none."""

import shlex

import pytest

LAUNCH = ["--run-dir", "gs://b/runs/tldr", "--secret", "OPENAI_API_KEY=openai-key", "--secret", "HF_TOKEN=hf"]
LAUNCH += ["--env", "LIBTPU_INIT_ARGS=--a=1 --b=2", "--env", "HF_HOME=/dev/shm/hf"]
SPECIAL = ["--", "steps=5", "judge={name: openai, model: 'a b'}", 'note=$HOME & "x" \\']
CREATE = {
    "on-demand": ["--topology", "v5e:2x4"],
    "spot": ["--topology", "v6e:4x4", "--spot", "--service-account", "trainer@my-project.iam.gserviceaccount.com"],
    "reserved": ["--topology", "v5p:4x4x4", "--reserved"],
    "several slices": ["--topology", "v5e:4x4", "--slices", "2", "--spot", "--gcloud", "--network=mine"],
    "flex-start": ["--topology", "v5e:2x4", "--flex-start", "24h"],
    "queued": ["--topology", "v5e:2x4", "--no-wait"],
    "direct": ["--topology", "v4:2x2x2", "--direct"],
}
CASES = {
    **{f"create {name}": ["create.sh", *words] for name, words in CREATE.items()},
    "setup": ["setup.sh", "--ref", "v1"],
    "launch": ["launch.sh", "CONFIG", *LAUNCH, *SPECIAL],
    "launch direct": ["launch.sh", "CONFIG", *LAUNCH, "--direct", "--via", "internal-ip"],
    "launch unchecked": ["launch.sh", "CONFIG", *LAUNCH, "--no-checks"],
    "status": ["status.sh"],
    "logs": ["logs.sh", "--follow", "--worker", "all"],
    "fetch": ["fetch.sh", "--run-dir", "gs://b/runs/tldr", "runs/tldr"],
    "stop": ["stop.sh", "--via=tunnel-through-iap"],
    "delete": ["delete.sh"],
    "delete now": ["delete.sh", "--now", "--direct"],
    "watch": ["watch.sh", "CONFIG", "--topology", "v5e:4x4", "--slices", "2", "--spot", *LAUNCH, *SPECIAL],
    "watch direct": ["watch.sh", "CONFIG", "--topology", "v5e:2x2", "--direct", *LAUNCH],
    "gke": ["gke.sh", "CONFIG", "--topology", "v5e:4x4", "--image", "i", *LAUNCH, "--namespace", "mine"],
}


@pytest.mark.parametrize("words", CASES.values(), ids=CASES)
def test_a_dry_run_prints_what_a_real_one_runs(words, cloud, config):
    cloud.add("mkdir")
    script, *words = [config if word == "CONFIG" else word for word in words]
    dry = cloud.run(script, "--dry-run", *words)
    assert not cloud.calls
    assert not dry.stderr
    _answer_well(cloud, from_nothing=script == "watch.sh", slices=2 if "--slices" in words else 1)
    cloud.run(script, *words)
    printed = dry.stdout.split(" <<'END'\n")[0]
    assert cloud.calls
    assert [shlex.split(line) for line in printed.splitlines()] == cloud.calls


def _answer_well(cloud, *, from_nothing, slices):
    before = [""] if from_nothing else []
    cloud.answer("queued-resources list", *before, "ACTIVE")
    cloud.answer(r"tpu-vm list .*value\(state\)", *before, "READY")
    cloud.answer("tpu-vm list", "\n".join(f"tldr-{slice_} READY HEALTHY" for slice_ in range(slices)))
    cloud.answer("preflight.py", "host-0 1a2b\nhost-1 1a2b")
    cloud.answer("state.sh", *(["host-0 absent 0 0"] if from_nothing else []), "host-0 done 0 0")
    cloud.answer("rev-parse", "HEAD")
