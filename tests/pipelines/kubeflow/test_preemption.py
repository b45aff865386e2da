"""A trainer's pod that is taken away: the next one, on another node with an empty disk, goes on from the checkpoint.

What Kubernetes does to a pod on a spot node of TPUs: SIGTERM to the container's first process, which is the launcher
and tells the step nothing; SIGKILL to all when the grace is over; the pod is deleted. Argo then starts a new pod of the
step (`retryPolicy`), whose launcher downloads the inputs again. Only the pipeline's root and the volume of
`training.checkpoint_root` are the same.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.kubeflow.launcher import Launcher
from tests.pipelines.kubeflow.test_recorded import recorded
from tests.pipelines.test_resuming import EVERY, STEPS, wait_for_checkpoint, weights
from tpu2gpu_pipelines.datasets import write_digits
from tpu2gpu_pipelines.kubeflow.compiler.compiling import CompiledPipeline, compile_pipeline
from tpu2gpu_pipelines.local import DEFAULT_PIPELINE, find_pipeline
from tpu2gpu_pipelines.settings import make_settings

ROOT = "minio://mlpipeline/v2/artifacts/digits"
SCRIPT = Path(__file__).with_name("pod.py")
GRACE_S = 0.5
PATIENCE_S = 500


def compiled_for(volume: Path, checkpoint_root: str) -> CompiledPipeline:
    """The pipeline, for a trainer that sees this volume."""
    values: dict[str, Any] = {
        "promotion_uri": str(volume / "promoted"),
        "training": {
            "steps": STEPS,
            "batch_size": 32,
            "checkpoint_root": checkpoint_root,
            "checkpoint_steps": EVERY,
        },
        "kubeflow": {
            "image": "tpu2gpu:tpu",
            "volumes": [{"claim": "models", "path": str(volume)}],
            "steps": {"Trainer": {"tpu": {"type": "v5e", "topology": "2x2"}, "retries": 3}},
        },
    }
    return compile_pipeline(make_settings(values, "the test"), find_pipeline(DEFAULT_PIPELINE))


class Pod:
    """A pod of the trainer: a process, and a disk of its own with what its launcher has downloaded."""

    def __init__(self, compiled: CompiledPipeline, disk: Path) -> None:
        ((_, examples),) = [
            (key, artifact["artifacts"][0]) for key, artifact in recorded("trainer")["inputs"]["artifacts"].items()
        ]
        self.disk, self.log = disk, disk / "log"
        launcher = Launcher(compiled.spec, ROOT, {"minio://": disk / "minio"})
        launcher.made["digit-examples", "examples"] = examples
        write_digits(launcher.path_of(examples["uri"]))
        step = launcher.step("trainer")
        self.given = launcher.executor_input(step)
        words = [{"{{$}}": json.dumps(self.given)}.get(word, word) for word in step.executor["container"]["args"]]
        threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(disk / "minio"), *words],
            env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
        )
        self._path_of = launcher.path_of

    def output(self, key: str) -> Path:
        """Where an output lies on the pod's disk."""
        return self._path_of(self.given["outputs"]["artifacts"][key]["artifacts"][0]["uri"])

    def delete(self) -> None:
        """As Kubernetes does it; nothing of its disk is left."""
        self.process.send_signal(signal.SIGTERM)
        time.sleep(GRACE_S)
        assert self.process.poll() is None
        assert not self.output("model").exists()
        self.process.kill()
        assert self.process.wait(timeout=PATIENCE_S) == -signal.SIGKILL
        shutil.rmtree(self.disk)

    def finish(self) -> dict[str, Any]:
        """What the training says of itself."""
        assert self.process.wait(timeout=PATIENCE_S) == 0, self.log.read_text()
        summary: dict[str, Any] = json.loads((self.output("model_run") / "training.json").read_text())
        return summary


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Callable[[CompiledPipeline, str], Pod]]:
    """Starts pods; those that still run in the end are killed."""
    pods: list[Pod] = []

    def start(compiled: CompiledPipeline, name: str) -> Pod:
        (tmp_path / name).mkdir()
        pods.append(Pod(compiled, tmp_path / name))
        return pods[-1]

    yield start
    for each in pods:
        each.process.kill()
        each.process.wait()


@pytest.mark.slow
def test_a_trainer_whose_pod_was_deleted_goes_on_in_another_and_comes_to_the_same_model(
    tmp_path: Path, pod: Callable[[CompiledPipeline, str], Pod]
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    undisturbed = pod(compiled_for(volume, checkpoint_root=""), "pod-of-another-run")
    compiled = compiled_for(volume, checkpoint_root=str(volume / "training"))
    first = pod(compiled, "pod-trainer-1")
    wait_for_checkpoint(2 * EVERY, first.process, volume / "training")
    first.delete()

    second = pod(compiled, "pod-trainer-2")
    assert second.output("model").relative_to(second.disk) != first.output("model").relative_to(first.disk)
    resumed = second.finish()
    assert not list((volume / "training").iterdir())  # the training is done
    whole = undisturbed.finish()

    done = resumed["resumed_after_step"]
    assert done in (EVERY, 2 * EVERY)  # the index stands before the checkpoint counts
    assert (whole["resumed_after_step"], whole["steps"], resumed["steps"]) == (0, STEPS, STEPS)
    assert "Epoch 1/" in undisturbed.log.read_text()
    assert "Epoch 1/" not in second.log.read_text()  # what was done is not done again
    assert f"training goes on after step {done}" in second.log.read_text()
    models = [each.output("model") / "Format-Serving" for each in (second, undisturbed)]
    assert weights(models[0]) == weights(models[1])
    assert resumed["held_out_loss"] == whole["held_out_loss"]
    assert second.log.read_text().splitlines()[-1] == "exit code 0: done"
    assert "native_type_compatibility" not in second.log.read_text()  # Beam's 65 lines a step
