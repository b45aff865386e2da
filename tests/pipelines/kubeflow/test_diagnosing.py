"""`tpu2gpu doctor --kubeflow` tells whether steps could run on a cluster and write their volumes, and what to set."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipelines.kubeflow.fake_cluster import FakeCluster, python_of_others, serve_cluster
from tests.pipelines.kubeflow.test_compiling import compiled_with, configs_of
from tpu2gpu.cli.main import main

NAMESPACE = "/api/v1/namespaces/kubeflow"
DEPLOYMENT = "/apis/apps/v1/namespaces/kubeflow/deployments/ml-pipeline"
other_users = pytest.mark.skipif(not python_of_others(), reason="no Python here that root could run as another user")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """A cluster with default manifests, which the kubeconfig file names."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serve_cluster() as held:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            "clusters": [{"name": "here", "cluster": {"server": held.url}}],
            "users": [{"name": "me", "user": {}}],
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
        from kubernetes.config import kube_config

        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
        held.has(f"{NAMESPACE}/serviceaccounts/pipeline-runner", "ServiceAccount")
        has_claim(held, "models")
        set_patch(held, "")
        yield held


@pytest.fixture
def volume() -> Iterator[Path]:
    """A volume as a provisioner makes it: root's. A folder of that name here is not taken for it."""
    folder = Path(tempfile.mkdtemp(prefix="tpu2gpu-volume-", dir="/tmp"))  # which every user reaches
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def has_claim(cluster: FakeCluster, name: str, modes: tuple[str, ...] = ("ReadWriteMany",), **annotations: str) -> None:
    spec = {"accessModes": list(modes), "volumeName": f"pv-{name}"}
    status = {"phase": "Bound", "accessModes": list(modes)}
    cluster.has(f"{NAMESPACE}/persistentvolumeclaims/{name}", "PersistentVolumeClaim", spec=spec, status=status)
    cluster.has(f"/api/v1/persistentvolumes/pv-{name}", "PersistentVolume", metadata={"annotations": annotations})


def set_patch(cluster: FakeCluster, patch: str) -> None:
    """Gives the API server the patch of all runs in its environment."""
    env = [{"name": "OBJECTSTORECONFIG_SECURE", "value": "false"}]
    env += [{"name": "COMPILED_PIPELINE_SPEC_PATCH", "value": patch}] if patch else []
    template = {"spec": {"containers": [{"name": "ml-pipeline-api-server", "env": env}]}}
    spec = {"selector": {"matchLabels": {}}, "template": template}
    cluster.has(DEPLOYMENT, "Deployment", spec=spec)


def look(tmp_path: Path, capfd: pytest.CaptureFixture[str], *words: str, **kubeflow: Any) -> tuple[int, dict[str, Any]]:
    """The exit code and the checks by name."""
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({"kubeflow": {"image": "tpu2gpu:cpu", **kubeflow}}))
    code = main(["doctor", "--kubeflow", "--settings", str(tmp_path / "settings.yaml"), "--json", *words])
    return code, {check["name"]: check for check in json.loads(capfd.readouterr().out)}


def test_a_whole_cluster_is_told_with_what_nobody_tried(
    cluster: FakeCluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    volumes = [{"claim": "models", "path": "/models-of-the-cluster"}]
    code, checks = look(tmp_path, capfd, volumes=volumes)
    assert code == 0
    assert checks["service account"]["passed"] is True
    assert (checks["claim models"]["passed"], checks["claim models"]["found"]) == (True, "Bound, ReadWriteMany")
    assert (checks["fsGroup of the steps' pods"]["passed"], checks["fsGroup of the steps' pods"]["found"]) == (
        None,
        "none",
    )
    assert checks["volume /models-of-the-cluster"]["passed"] is None
    assert "--probe starts a pod" in checks["volume /models-of-the-cluster"]["hint"]
    assert not cluster.pods


def test_what_is_not_there_is_named_with_what_to_set(
    cluster: FakeCluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    has_claim(cluster, "slow", ("ReadWriteOnce",))
    set_patch(cluster, '{"securityContext": {"fsGroup": 1000}}')
    volumes = [{"claim": "moddels", "path": "/a"}, {"claim": "slow", "path": "/b"}]
    code, checks = look(tmp_path, capfd, volumes=volumes, service_account="runner")
    assert code == 4
    assert checks["service account"]["found"] == "runner is not in kubeflow"
    assert "kubeflow.service_account" in checks["service account"]["hint"]
    assert checks["claim moddels"]["found"] == "is not in kubeflow"
    assert "without ReadWriteMany a step waits" in checks["claim slow"]["hint"]
    assert checks["fsGroup of the steps' pods"]["found"] == "1000"


def test_what_we_may_not_see_is_no_fault_of_the_cluster(
    cluster: FakeCluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.forbidden = "/deployments/"
    code, checks = look(tmp_path, capfd)
    assert (code, checks["fsGroup of the steps' pods"]["passed"]) == (0, None)
    assert "we may not look at it (403 Forbidden: " in checks["fsGroup of the steps' pods"]["found"]


@other_users
def test_a_volume_of_roots_is_one_that_steps_cannot_write(
    cluster: FakeCluster, volume: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    volumes = [{"claim": "models", "path": str(volume)}]
    code, checks = look(tmp_path, capfd, "--probe", volumes=volumes, service_account="pipeline-runner")
    found = checks[f"volume {volume}"]
    assert (code, found["passed"]) == (4, False)
    assert found["found"] == "Permission denied; belongs to 0:0, mode 755, steps run as 1000:1000"
    assert 'COMPILED_PIPELINE_SPEC_PATCH=\'{"securityContext": {"fsGroup": 1000' in found["hint"]
    assert "chown 1000:1000" in found["hint"]
    assert "run_as_user" not in found["hint"]  # nobody is told to run as root
    ((name, pod),) = cluster.pods.items()
    assert cluster.deleted == [name]
    assert pod["spec"]["serviceAccountName"] == "pipeline-runner"
    assert pod["spec"]["containers"][0]["image"] == "tpu2gpu:cpu"


@other_users
@pytest.mark.parametrize("way", ["fsGroup", "run_as_user", "run_as_group", "chown"])
def test_each_way_that_it_tells_lets_steps_write(
    way: str, cluster: FakeCluster, volume: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"volumes": [{"claim": "models", "path": str(volume)}]}
    if way == "fsGroup":
        set_patch(cluster, '{"securityContext": {"fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch"}}')
    elif way == "chown":
        os.chown(volume, 1000, 1000)
    else:
        os.chown(volume, 2000, 3000)
        volume.chmod(0o775)
        _, checks = look(tmp_path, capfd, "--probe", **settings)
        hint = checks[f"volume {volume}"]["hint"]
        assert "kubeflow.run_as_user: 2000" in hint
        assert "kubectl annotate pv pv-models pv.beta.kubernetes.io/gid=3000" in hint
        settings[way] = 2000 if way == "run_as_user" else 3000
    code, checks = look(tmp_path, capfd, "--probe", **settings)
    assert (code, checks[f"volume {volume}"]["passed"]) == (0, True), checks
    assert checks[f"volume {volume}"]["found"].startswith("writable; belongs to ")
    assert not list(volume.iterdir())


@other_users
def test_a_pod_that_does_not_end_well_is_told_by_its_last_words(
    cluster: FakeCluster,
    volume: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import tests.pipelines.kubeflow.fake_cluster as fake

    monkeypatch.setattr(fake, "run_container", lambda spec: ("exec: python: not found\n", 127))
    code, checks = look(tmp_path, capfd, "--probe", volumes=[{"claim": "models", "path": str(volume)}])
    assert (code, checks["volumes"]["passed"]) == (4, False)
    assert "failed: exec: python: not found" in checks["volumes"]["found"]
    assert cluster.deleted == list(cluster.pods)


SLICE: dict[str, Any] = {
    "volumes": [{"claim": "models", "path": "/models"}],
    "steps": {"Trainer": {"tpu": {"topology": "4x8", "service_account": "trainer"}}},
}
JOB_SETS = "/apis/jobset.x-k8s.io/v1alpha2/namespaces/kubeflow/jobsets"


def test_a_cluster_that_can_train_on_several_hosts(
    cluster: FakeCluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.has(JOB_SETS, "JobSetList", items=[])
    cluster.has(f"{NAMESPACE}/serviceaccounts/trainer", "ServiceAccount")
    code, checks = look(tmp_path, capfd, **SLICE)
    assert code == 0
    assert checks["JobSets"]["passed"] is True
    assert checks["rights of pipeline-runner"]["found"] == "to launch and watch JobSets"
    assert checks["service account trainer"]["passed"] is True
    assert checks["claim models on several hosts"]["passed"] is True
    assert {review["user"] for review in cluster.reviewed} == {"system:serviceaccount:kubeflow:pipeline-runner"}


def test_what_a_training_on_several_hosts_lacks_is_named_all_at_once(
    cluster: FakeCluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    has_claim(cluster, "models", ("ReadWriteOnce",))
    cluster.denied = {("create", "jobsets", ""), ("get", "pods", "log")}
    code, checks = look(tmp_path, capfd, **SLICE)
    assert code == 4
    assert checks["JobSets"]["found"] == "the cluster knows no jobset.x-k8s.io/v1alpha2"
    assert checks["rights of pipeline-runner"]["found"] == "it may not create jobsets, get pods/log"
    assert "--rights | kubectl apply -f -" in checks["rights of pipeline-runner"]["hint"]
    assert checks["service account trainer"]["found"] == "is not in kubeflow, so no worker would start"
    assert checks["claim models on several hosts"] == {
        "name": "claim models on several hosts",
        "passed": False,
        "found": "ReadWriteOnce",
        "hint": "every host mounts it: make one with ReadWriteMany, as of Filestore",
    }


def test_whose_rights_we_may_not_ask_for_is_nobodys_fault(
    cluster: FakeCluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.has(JOB_SETS, "JobSetList", items=[])
    cluster.has(f"{NAMESPACE}/serviceaccounts/trainer", "ServiceAccount")
    cluster.forbidden = "subjectaccessreviews"
    code, checks = look(tmp_path, capfd, **SLICE)
    assert (code, checks["rights of pipeline-runner"]["passed"]) == (0, None)


def test_no_training_on_several_hosts_asks_for_none_of_that(
    cluster: FakeCluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, checks = look(tmp_path, capfd, steps={"Trainer": {"tpu": {"topology": "2x4"}}})
    assert "JobSets" not in checks


def test_the_rights_are_printed_as_kubectl_takes_them(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = {"image": "tpu2gpu:cpu", "service_account": "runner", "server": {"namespace": "team-a"}, **SLICE}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({"kubeflow": told}))
    assert main(["doctor", "--kubeflow", "--rights", "--settings", str(tmp_path / "settings.yaml")]) == 0
    account, role, binding = yaml.safe_load_all(capfd.readouterr().out)
    assert {it["metadata"]["namespace"] for it in (account, role, binding)} == {"team-a"}
    assert (account["kind"], account["metadata"]["name"]) == ("ServiceAccount", "trainer")
    allowed = {(kind, verb) for rule in role["rules"] for kind in rule["resources"] for verb in rule["verbs"]}
    assert allowed == {
        *(("jobsets", verb) for verb in ("create", "delete", "get", "list", "patch", "watch")),
        ("pods", "get"),
        ("pods", "list"),
        ("pods/log", "get"),
    }
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "runner", "namespace": "team-a"}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert main(["doctor", "--kubeflow", "--rights"]) == 2
    assert "no step runs on several hosts" in capfd.readouterr().err
    assert main(["doctor", "--rights"]) == 2


def test_in_a_pod_that_sees_the_volume_no_cluster_is_needed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes.config import kube_config

    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")  # and no token for it
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    code, checks = look(tmp_path, capfd, volumes=[{"claim": "models", "path": str(tmp_path)}])
    assert (code, checks[f"volume {tmp_path}"]["passed"]) == (0, True)
    assert main(["doctor", "--kubeflow"]) == 4
    assert "no cluster is known" in capfd.readouterr().err


def test_the_flags_of_the_cluster_are_for_the_cluster(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--probe"]) == 2
    assert "are for --kubeflow" in capfd.readouterr().err


def test_the_user_of_the_steps_is_compiled_where_the_settings_say_one() -> None:
    volumes = [{"claim": "models", "path": "/models"}]
    compiled = compiled_with(platform="kubernetes", volumes=volumes, run_as_user=2000, run_as_group=3000)
    contexts = [config["securityContext"] for config in configs_of(compiled).values()]
    assert contexts == [{"runAsUser": 2000, "runAsGroup": 3000}] * len(configs_of(compiled))
    without = compiled_with(platform="kubernetes", volumes=volumes)
    assert all("securityContext" not in config for config in configs_of(without).values())
