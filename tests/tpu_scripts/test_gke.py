import re

import pytest
import yaml

from tests.tpu_scripts.stand_in import SCRIPTS

RUN = ["--topology", "v5e:4x4", "--image", "registry/dar_jax:1", "--run-dir", "gs://b/runs/tldr"]


@pytest.fixture
def apply(cloud, config):
    def run(*words):
        cloud.run("gke.sh", config, *RUN, *words)
        return yaml.safe_load(cloud.input)

    return run


def _pod(manifest):
    return manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]


def test_the_config_is_sent_then_the_jobset(apply, cloud, config):
    apply("--namespace", "mine")
    kubectl = ["kubectl", "--namespace=mine"]
    assert cloud.calls == [
        [*kubectl, "delete", "configmap", "tldr", "--ignore-not-found"],
        [*kubectl, "create", "configmap", "tldr", f"--from-file=config.yaml={config}"],
        [*kubectl, "apply", "-f", "-"],
    ]


def test_a_slice_is_a_job_and_a_host_a_pod(apply):
    manifest = apply("--slices", "2")
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert manifest["metadata"]["name"] == "tldr"
    exclusive = "alpha.jobset.sigs.k8s.io/exclusive-topology"
    assert manifest["metadata"]["annotations"] == {exclusive: "cloud.google.com/gke-nodepool"}
    (slices,) = manifest["spec"]["replicatedJobs"]
    job, pod = slices["template"]["spec"], _pod(manifest)
    assert slices["replicas"] == 2
    assert (job["parallelism"], job["completions"], job["backoffLimit"]) == (4, 4, 0)
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }
    assert pod["restartPolicy"] == "Never"  # podFailurePolicy asks for it
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == container["resources"]["requests"] == {"google.com/tpu": 4}
    assert container["image"] == "registry/dar_jax:1"


@pytest.mark.parametrize(
    ("topology", "more", "label", "hosts", "chips"),
    [
        ("v4:2x2x4", [], "tpu-v4-podslice", 4, 4),
        ("v5p:4x4x4", [], "tpu-v5p-slice", 16, 4),
        ("v6e:2x4", [], "tpu-v6e-slice", 2, 4),
        ("v6e:2x4", ["--chips-per-host", "8"], "tpu-v6e-slice", 1, 8),
        ("v5e:1x1", [], "tpu-v5-lite-podslice", 1, 1),
    ],
)
def test_the_machines_of_a_topology(topology, more, label, hosts, chips, cloud, config):
    cloud.run("gke.sh", config, *RUN, "--topology", topology, *more)
    manifest = yaml.safe_load(cloud.input)
    pod = _pod(manifest)
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-accelerator"] == label
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == topology.split(":")[1]
    assert manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["parallelism"] == hosts
    assert pod["containers"][0]["resources"]["limits"]["google.com/tpu"] == chips


def test_all_start_again_together_but_not_after_status_2_3_4_and_7(apply):
    manifest = apply("--max-restarts", "7")
    rules = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    exit_codes = {"containerName": "dar-jax", "operator": "In", "values": [2, 3, 4, 7]}
    assert rules == [{"action": "FailJob", "onExitCodes": exit_codes}]
    assert manifest["spec"]["failurePolicy"] == {
        "maxRestarts": 7,
        "rules": [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
    }
    assert _pod(manifest)["containers"][0]["name"] == "dar-jax"


def test_a_pod_runs_what_a_host_of_cloud_tpu_runs(apply):
    overrides = ["steps=5", "judge={name: openai, model: 'a b'}", 'a="x|y&z\\"', "@NAME@"]
    pod = _pod(apply("--secret", "OPENAI_API_KEY=openai-key", "--", *overrides))
    (container,) = pod["containers"]
    assert container["command"] == ["python", "-u", "tpu_scripts/worker/run.py"]
    told = ["--run-dir", "gs://b/runs/tldr", "--compile-cache", "gs://b/compile-cache", "--start-timeout", "1800"]
    told += ["--secret", "OPENAI_API_KEY=projects/my-project/secrets/openai-key"]
    assert container["args"] == [*told, "--config", "/config/config.yaml", "--", *overrides]
    assert container["volumeMounts"][0]["mountPath"] == "/config"
    assert pod["volumes"] == [{"name": "config", "configMap": {"name": "tldr"}}]


def test_what_is_not_asked_for_is_left_out(apply):
    manifest = apply()
    assert "serviceAccountName" not in _pod(manifest)
    assert "kueue.x-k8s.io/queue-name" not in manifest["metadata"]["labels"]
    assert len(_pod(manifest)["tolerations"]) == 1


def test_what_is_asked_for_is_there(apply):
    manifest = apply("--account", "trainer", "--queue", "multislice-queue", "--spot")
    pod = _pod(manifest)
    assert pod["serviceAccountName"] == "trainer"
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "multislice-queue"
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert "cloud.google.com/gke-spot" in [each["key"] for each in pod["tolerations"]]


def test_every_place_of_the_manifest_is_filled(apply, cloud):
    template = (SCRIPTS / "jobset.yaml").read_text()
    assert len(set(re.findall(r"@[A-Z_]+@", template))) == 11
    apply("--account", "trainer", "--queue", "q", "--spot")
    assert not re.search(r"@[A-Z_]+@|# \[", cloud.input)
