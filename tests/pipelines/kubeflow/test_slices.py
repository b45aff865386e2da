"""A TPU slice of several hosts compiles to a step that launches a JobSet, or is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.pipelines.kubeflow.examples import EXAMPLES, golden_pipeline
from tests.pipelines.kubeflow.slices import settings_of
from tests.pipelines.kubeflow.test_compiling import configs_of, steps
from tpu2gpu.cli.main import main
from tpu2gpu.errors import UsageError
from tpu2gpu_pipelines.kubeflow.compiler.compiling import compile_pipeline
from tpu2gpu_pipelines.kubeflow.compiler.job_set import job_set_manifest
from tpu2gpu_pipelines.kubeflow.compiler.pod_spec import OWN_POD
from tpu2gpu_pipelines.kubeflow.compiler.settings_check import main_pipeline_mistakes
from tpu2gpu_pipelines.kubeflow.compiler.specification import JOB_SET_FLAG, WORKER
from tpu2gpu_pipelines.kubeflow.compiler.tpu_slices import find_slice
from tpu2gpu_pipelines.kubeflow_options import TpuOptions
from tpu2gpu_pipelines.local import DEFAULT_PIPELINE, find_pipeline
from tpu2gpu_pipelines.settings import load_settings, make_settings


def launched() -> dict[str, Any]:
    """What the Trainer of the example is told to launch."""
    words = steps(golden_pipeline("gke_slice"))["trainer"].executor["container"]["args"]
    told: dict[str, Any] = json.loads(words[words.index(JOB_SET_FLAG) + 1])
    return told


def job_of(manifest: dict[str, Any]) -> dict[str, Any]:
    (replicated,) = manifest["spec"]["replicatedJobs"]
    assert replicated["replicas"] == 1
    job: dict[str, Any] = replicated["template"]["spec"]
    return job


@pytest.mark.parametrize(
    ("kind", "topology", "hosts", "chips_per_host", "label"),
    [
        ("v5e", "2x4", 1, 8, "tpu-v5-lite-podslice"),
        ("v5e", "4x4", 4, 4, "tpu-v5-lite-podslice"),
        ("v5e", "4x8", 8, 4, "tpu-v5-lite-podslice"),
        ("v5e", "16x16", 64, 4, "tpu-v5-lite-podslice"),
        ("v6e", "1x1", 1, 1, "tpu-v6e-slice"),
        ("v6e", "8x16", 32, 4, "tpu-v6e-slice"),
        ("v4", "2x2x1", 1, 4, "tpu-v4-podslice"),
        ("v4", "2x2x2", 2, 4, "tpu-v4-podslice"),
        ("v5p", "4x4x4", 16, 4, "tpu-v5p-slice"),
        ("v5p", "4x4x12", 48, 4, "tpu-v5p-slice"),
    ],
)
def test_slices_are_those_of_google_s_clusters(
    kind: str, topology: str, hosts: int, chips_per_host: int, label: str
) -> None:
    found = find_slice(TpuOptions(type=kind, topology=topology))
    assert (found.hosts, found.chips_per_host, found.label) == (hosts, chips_per_host, label)


@pytest.mark.parametrize(
    ("kind", "topology"),
    [
        *(("v5e", topology) for topology in ("3x3", "8x4", "2x2x1", "16x32")),
        *(("v6e", topology) for topology in ("0x4", "2x8")),
        *(("v4", topology) for topology in ("2x2", "4x4x6", "16x16x24")),
        *(("v5p", topology) for topology in ("8x4x4", "4x4x0")),
    ],
)
def test_a_slice_that_does_not_exist_would_wait_for_its_nodes_for_ever(kind: str, topology: str) -> None:
    trainer = {"tpu": {"type": kind, "topology": topology}}
    (line,) = mistakes(kubeflow={"steps": {"Trainer": trainer}})
    assert line.startswith(f"kubeflow.steps.Trainer.tpu.topology: '{topology}': ")


def test_each_host_has_one_pod_with_its_chips_and_they_start_and_end_together() -> None:
    manifest = launched()["manifest"]
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    job = job_of(manifest)
    assert (job["parallelism"], job["completions"], job["completionMode"], job["backoffLimit"]) == (8, 8, "Indexed", 0)
    pod = job["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x8",
        "cloud.google.com/gke-spot": "true",
    }
    assert {it["key"] for it in pod["tolerations"]} == {"google.com/tpu", "cloud.google.com/gke-spot"}
    (container,) = pod["containers"]
    assert container["command"] == list(WORKER)
    assert container["resources"]["limits"] == container["resources"]["requests"]
    assert container["resources"]["limits"]["google.com/tpu"] == "4"
    assert (pod["restartPolicy"], pod["serviceAccountName"]) == ("Never", "tpu2gpu-worker")
    assert container["volumeMounts"] == [{"name": "claim0", "mountPath": "/models"}]
    assert manifest["spec"]["network"]["enableDNSHostnames"] is True  # the headless service
    assert manifest["metadata"]["annotations"] == {
        "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
    }


def test_what_would_fail_again_fails_at_once_and_all_else_starts_again() -> None:
    manifest = launched()["manifest"]
    policy = manifest["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 5  # the step's retries
    assert policy["rules"] == [{"name": "final", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}]
    (rule,) = job_of(manifest)["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"] == {"containerName": "worker", "operator": "In", "values": [1, 2, 3, 4, 5]}


def test_the_launching_pod_has_no_tpu_and_knows_itself() -> None:
    pipeline = golden_pipeline("gke_slice")
    container = steps(pipeline)["trainer"].executor["container"]
    (worker,) = job_of(launched()["manifest"])["template"]["spec"]["containers"]
    assert container["image"] == worker["image"]
    assert "resources" not in container
    config = configs_of(pipeline)["exec-trainer"]
    assert "nodeSelector" not in config
    assert "tolerations" not in config
    known = {it["name"]: it["fieldPath"] for it in config["fieldPathAsEnv"]}
    assert {name: known[name] for name in OWN_POD} == OWN_POD
    assert [mount["mountPath"] for mount in config["pvcMount"]] == ["/models"]
    other = configs_of(pipeline)["exec-freezer"]["fieldPathAsEnv"]
    assert [it["name"] for it in other] == ["TPU2GPU_RUN"]


def test_secrets_users_and_claims_reach_the_workers() -> None:
    secrets = [
        {"name": "tracker", "key": "api-key", "env": "TRACKER_KEY"},
        {"name": "google", "path": "/secrets/google"},
        {"name": "google", "path": "/secrets/again"},
    ]
    volumes = [{"claim": "more", "path": "/more"}, {"claim": "more", "path": "/more-again"}]
    values = settings_of(Path("/models"), secrets=secrets, volumes=volumes, env={"A": "1"})
    values["kubeflow"] |= {"run_as_user": 2000, "image_pull_secrets": ["registry"]}
    settings = make_settings(values, "the test", main_pipeline_mistakes)
    from tpu2gpu_pipelines.kubeflow.compiler.accelerators import find_accelerator

    step = settings.kubeflow.step("Trainer")
    accelerator = find_accelerator(step, "kubernetes", "gke")
    assert accelerator
    manifest = job_set_manifest(step, accelerator, ("registry",), settings.kubeflow.user())
    pod = job_of(manifest)["template"]["spec"]
    (container,) = pod["containers"]
    assert container["env"] == [
        {"name": "A", "value": "1"},
        {"name": "TRACKER_KEY", "valueFrom": {"secretKeyRef": {"name": "tracker", "key": "api-key"}}},
    ]
    names = [it["name"] for it in pod["volumes"]]
    assert len(names) == len(set(names)) == 4
    mounted = {it["mountPath"]: it["name"] for it in container["volumeMounts"]}
    assert set(mounted) == {"/models", "/more", "/more-again", "/secrets/google", "/secrets/again"}
    assert set(mounted.values()) == set(names)
    assert container["securityContext"] == {"runAsUser": 2000}
    assert pod["imagePullSecrets"] == [{"name": "registry"}]


def mistakes(**sections: Any) -> list[str]:
    """What is wrong with the settings of a slice that are right but for these sections."""
    values: dict[str, Any] = settings_of(Path("/models"))
    for name, content in sections.items():
        values[name] = {**values[name], **content} if isinstance(content, dict) else content
    try:
        make_settings(values, "the test", main_pipeline_mistakes)
    except UsageError as error:
        return list(error.details)
    return []


@pytest.mark.parametrize("root", ["gs://bucket/training", "/models/training", "/models"])
def test_a_folder_that_all_hosts_see_is_a_bucket_or_on_a_volume(root: str) -> None:
    assert mistakes(training={"checkpoint_root": root, "batch_size": 32}) == []


@pytest.mark.parametrize(
    ("root", "says"),
    [
        ("", "training.checkpoint_root: there is none, and the 2 hosts of 2x2x2 and the step that launches them need"),
        ("s3://bucket/x", "training.checkpoint_root: s3://bucket/x: the hosts of a TPU read and write gs://"),
        ("minio://mlpipeline/x", "training.checkpoint_root: minio://mlpipeline/x: the hosts of a TPU read"),
        ("/scratch", "training.checkpoint_root: /scratch: Trainer sees no volume there"),
        ("checkpoints", "training.checkpoint_root: checkpoints: goes with its container"),
    ],
)
def test_any_other_folder_is_refused_with_the_reason(root: str, says: str) -> None:
    (line,) = mistakes(training={"checkpoint_root": root, "batch_size": 32})
    assert line.startswith(says)


def test_a_batch_is_shared_out_among_all_chips() -> None:
    (line,) = mistakes(training={"checkpoint_root": "/models", "batch_size": 12})
    assert line == "training.batch_size: 12: is over all chips, and no multiple of the 8 of 2x2x2"


def test_only_a_training_runs_on_several_hosts() -> None:
    lines = mistakes(kubeflow={"steps": {"Freezer": {"tpu": {"type": "v5e", "topology": "4x8"}}}})
    assert lines[0] == "kubeflow.steps.Freezer.tpu: 4x8 is 8 hosts, and TFX's Trainer alone runs on several"


@pytest.mark.parametrize("place", [{"platform": "vertex", "volumes": []}, {"cluster": "plain"}])
def test_where_there_are_no_tpus_there_are_no_slices(place: dict[str, Any]) -> None:
    lines = mistakes(kubeflow=place, promotion_uri="gs://bucket/promoted")
    assert any(line.startswith("kubeflow.steps.Trainer.tpu: v4: GKE alone has TPU nodes") for line in lines)
    assert not any("hosts" in line for line in lines)


def test_everything_wrong_with_a_slice_is_told_at_once_before_tfx_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (EXAMPLES / "gke_slice.yaml").read_text()
    text = text.replace("gs://my-bucket/training", "s3://my-bucket/training").replace(
        "batch_size: 1024", "batch_size: 9"
    )
    text = text.replace("service_account: tpu2gpu-worker", "service_account: ''")
    (tmp_path / "bad.yaml").write_text(text)
    assert main(["compile", "--settings", str(tmp_path / "bad.yaml"), "-o", str(tmp_path / "out.yaml")]) == 2
    told = [line.removeprefix("  - ") for line in capsys.readouterr().err.splitlines()[1:]]
    assert [line.split(":")[0] for line in told] == [
        "kubeflow.steps.Trainer.tpu.service_account",
        "training.checkpoint_root",
        "training.batch_size",
    ]


def test_a_pipeline_of_ones_own_is_held_to_the_same() -> None:
    settings = load_settings(EXAMPLES / "gke_slice.yaml")
    settings = attrs.evolve(settings, training=attrs.evolve(settings.training, checkpoint_root="s3://x"))
    create = find_pipeline(DEFAULT_PIPELINE)

    def own(told: Any) -> Any:
        return create(told)

    with pytest.raises(UsageError) as caught:
        compile_pipeline(settings, own)
    (line,) = caught.value.details
    assert line.startswith("training.checkpoint_root: s3://x: the hosts of a TPU read and write gs://")
