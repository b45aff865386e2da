"""A server that answers as Kubeflow does, and what is submitted to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.pipelines.kubeflow.examples import EXAMPLES, golden_pipeline
from tests.pipelines.kubeflow.fake_server import Kubeflow, serve
from tpu2gpu_pipelines.kubeflow.api import submitting
from tpu2gpu_pipelines.kubeflow.compiler.compiling import CompiledPipeline


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
