"""Servers that answer as Kubeflow and Kubernetes do, and what is submitted to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.pipelines.kubeflow.examples import EXAMPLES, golden_pipeline
from tests.pipelines.kubeflow.fake_job_sets import FakeJobSets, serve_job_sets
from tests.pipelines.kubeflow.fake_server import Kubeflow, serve
from tests.pipelines.kubeflow.slices import POD, RUN, LaunchingPod, compiled_slice, name_in_kubeconfig
from tpu2gpu_pipelines.kubeflow.api import submitting
from tpu2gpu_pipelines.kubeflow.cluster import job_sets, worker_logs
from tpu2gpu_pipelines.kubeflow.compiler.compiling import CompiledPipeline
from tpu2gpu_pipelines.kubeflow.container import executor_input, launching, retrying


@pytest.fixture
def quick_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """KFP's client reads these; and nobody has time to wait."""
    import kfp

    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "no-context.json"))
    monkeypatch.setattr(submitting, "_ASK_EVERY_S", 0.01)


@pytest.fixture
def kubeflow(quick_client: None) -> Iterator[Kubeflow]:
    with serve() as held:
        yield held


@pytest.fixture(scope="module")
def gke_pipeline() -> CompiledPipeline:
    """A compiled pipeline, as it stands in a file: nothing of TFX is needed to submit it."""
    return golden_pipeline("gke")


@pytest.fixture
def gke_settings(kubeflow: Kubeflow, tmp_path: Path) -> Path:
    """The GKE example, for this server and a promotion folder of this machine."""
    values = yaml.safe_load((EXAMPLES / "gke.yaml").read_text())
    values["promotion_uri"] = str(tmp_path / "promoted")
    values["training"]["checkpoint_root"] = str(tmp_path / "training")
    values["kubeflow"]["volumes"] = [{"claim": "models", "path": str(tmp_path)}]
    values["kubeflow"]["server"] = {"host": kubeflow.url}
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def slice_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeJobSets]:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serve_job_sets() as held:
        name_in_kubeconfig(held, tmp_path / "kubeconfig")
        from kubernetes.config import kube_config

        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
        yield held


@pytest.fixture(scope="module")
def slice_volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("volume")


@pytest.fixture(scope="module")
def compiled_training(slice_volume: Path) -> CompiledPipeline:
    return compiled_slice(slice_volume)


@pytest.fixture
def launching_pod(
    compiled_training: CompiledPipeline, slice_volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LaunchingPod]:
    """The step's pod, which nobody lets wait; in the end nothing of it may be left."""
    for name, value in {**POD, "TPU2GPU_RUN": RUN, "TPU2GPU_PIPELINE": "tpu2gpu-digits"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(executor_input, "_MOUNTS", {"minio://": f"{tmp_path / 'minio'}/"})
    monkeypatch.setattr(job_sets, "_AT_LEAST_S", 0.01)
    monkeypatch.setattr(launching, "_ASK_AGAIN_S", 0.01)
    monkeypatch.setattr(worker_logs, "_LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(retrying, "_FIRST_WAIT_S", 0.01)
    yield LaunchingPod(compiled_training, tmp_path)
    assert not [path for path in (slice_volume / "training").rglob("*") if path.is_file()]
