"""A step that trains on a slice of two hosts, as Kubeflow starts it, for the tests of JobSets."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import yaml

from tests.pipelines.kubeflow.fake_job_sets import NAMESPACE, FakeJobSets
from tests.pipelines.kubeflow.launcher import Launcher
from tests.pipelines.kubeflow.test_recorded import recorded
from tests.pipelines.test_resuming import EVERY, STEPS
from tpu2gpu_pipelines.datasets import write_digits
from tpu2gpu_pipelines.kubeflow.compiler.compiling import CompiledPipeline, compile_pipeline
from tpu2gpu_pipelines.kubeflow.container.exchange import Exchange
from tpu2gpu_pipelines.local import DEFAULT_PIPELINE, find_pipeline
from tpu2gpu_pipelines.settings import make_settings

ROOT = "minio://mlpipeline/v2/artifacts/digits"
POD = {"TPU2GPU_POD": "digits-trainer-1", "TPU2GPU_POD_UID": "0b5a", "TPU2GPU_NAMESPACE": NAMESPACE}
RUN = "5e4f0a52-0000-4000-8000-000000000000"


def settings_of(volume: Path, **trainer: Any) -> dict[str, Any]:
    """The main pipeline's, for a slice of four hosts by its topology; v4 has the smallest of two, 2x2x2."""
    return {
        "promotion_uri": str(volume / "promoted"),
        "training": {
            "steps": STEPS,
            "batch_size": 32,
            "checkpoint_root": str(volume / "training"),
            "checkpoint_steps": EVERY,
        },
        "kubeflow": {
            "image": "tpu2gpu:tpu",
            "volumes": [{"claim": "models", "path": str(volume)}],
            "steps": {"Trainer": {"tpu": {"type": "v4", "topology": "2x2x2"}, "retries": 3, **trainer}},
        },
    }


def compiled_slice(volume: Path, **trainer: Any) -> CompiledPipeline:
    """The pipeline whose Trainer launches a JobSet."""
    settings = make_settings(settings_of(volume, **trainer), "the test")
    return compile_pipeline(settings, find_pipeline(DEFAULT_PIPELINE))


class LaunchingPod:
    """The step's pod: a disk with what its launcher has downloaded, and the words of its command."""

    def __init__(self, compiled: CompiledPipeline, disk: Path) -> None:
        (artifact,) = recorded("trainer")["inputs"]["artifacts"]["examples"]["artifacts"]
        launcher = Launcher(compiled.spec, ROOT, {"minio://": disk / "minio"})
        launcher.made["digit-examples", "examples"] = artifact
        write_digits(launcher.path_of(artifact["uri"]))
        step = launcher.step("trainer")
        self.disk = disk
        self.given = launcher.executor_input(step)
        self.words = [{"{{$}}": json.dumps(self.given)}.get(word, word) for word in step.executor["container"]["args"]]
        self._path_of = launcher.path_of

    def output(self, key: str) -> Path:
        """Where an output lies on the pod's disk."""
        return self._path_of(self.given["outputs"]["artifacts"][key]["artifacts"][0]["uri"])


def name_in_kubeconfig(held: FakeJobSets, path: Path) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": held.url}}],
        "users": [{"name": "me", "user": {}}],
    }
    path.write_text(yaml.safe_dump(config))


def exchange_of(held: FakeJobSets, name: str) -> Exchange:
    (container,) = pod_spec(held.made[-1])["containers"]
    (uri,) = container["args"]
    assert f"/job-sets/{name}-" in uri
    return Exchange.at(uri)


def pod_spec(manifest: dict[str, Any]) -> dict[str, Any]:
    (job,) = manifest["spec"]["replicatedJobs"]
    spec: dict[str, Any] = job["template"]["spec"]["template"]["spec"]
    return spec


def leave_result(held: FakeJobSets, name: str) -> None:
    """What the first worker leaves, without a training."""
    exchange = exchange_of(held, name)
    _, given, _ = exchange.read_step()
    here = Path(exchange.uri, "on-the-worker")
    for key in ("model", "model_run"):
        (here / key / "Format-Serving").mkdir(parents=True)
        (here / key / "Format-Serving" / "weights").write_text(f"{key} of {name}")
        given["outputs"]["artifacts"][key]["artifacts"][0] |= {"uri": str(here / key), "metadata": {"trained": 1}}
    exchange.put_result({"artifacts": given["outputs"]["artifacts"]})


def finish(held: FakeJobSets, name: str) -> None:
    """The good end of a set whose pods run."""
    for index in range(2):
        held.end_pod(name, index, 0)
    held.end(name, "Completed", "AllJobsCompleted", "jobset completed successfully")


def work(held: FakeJobSets, name: str) -> None:
    """A set that has no trouble."""
    held.start_pods(name)
    held.say(name, 0, "Epoch 1/1, größer als ½ …………………………………………………………")
    leave_result(held, name)
    finish(held, name)


def wait_until(true: Any, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
