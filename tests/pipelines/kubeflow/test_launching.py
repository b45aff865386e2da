"""A training on several hosts: the step launches a JobSet, follows it to its end, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.kubeflow.fake_job_sets import FakeJobSets
from tests.pipelines.kubeflow.slices import (
    POD,
    RUN,
    LaunchingPod,
    exchange_of,
    finish,
    leave_result,
    pod_spec,
    wait_until,
    work,
)
from tpu2gpu_pipelines.kubeflow.container import entrypoint
from tpu2gpu_pipelines.kubeflow.container.exchange import Exchange


def test_the_result_is_brought_home_and_nothing_else_is_left(
    slice_cluster: FakeJobSets, launching_pod: LaunchingPod, capfd: pytest.CaptureFixture[str]
) -> None:
    slice_cluster.controller = work
    assert entrypoint.main(launching_pod.words) == 0
    (manifest,) = slice_cluster.made
    name = manifest["metadata"]["name"]
    for key in ("model", "model_run"):
        assert (launching_pod.output(key) / "Format-Serving" / "weights").read_text() == f"{key} of {name}"
    written = json.loads(Path(launching_pod.given["outputs"]["outputFile"]).read_text())
    (model,) = written["artifacts"]["model"]["artifacts"]
    assert (model["uri"], model["metadata"]["trained"]) == (
        launching_pod.given["outputs"]["artifacts"]["model"]["artifacts"][0]["uri"],
        1,
    )
    assert written["artifacts"]["executor-logs"] == launching_pod.given["outputs"]["artifacts"]["executor-logs"]
    said = capfd.readouterr()
    assert "Epoch 1/1, größer als ½ …………………………………………………………\n" in said.out
    assert said.err.splitlines()[-1] == "exit code 0: done"
    wait_until(lambda: not slice_cluster.sets)


def test_the_job_set_is_the_steps_own_and_named_by_run_and_step(
    slice_cluster: FakeJobSets, launching_pod: LaunchingPod
) -> None:
    slice_cluster.controller = work
    slice_cluster.own_pod = {
        "kind": "Pod",
        "metadata": {"name": POD["TPU2GPU_POD"]},
        "spec": {"containers": [{"name": "main"}], "securityContext": {"fsGroup": 1000}},
    }
    assert entrypoint.main(launching_pod.words) == 0
    ((manifest),) = slice_cluster.made
    metadata, spec = manifest["metadata"], manifest["spec"]
    assert metadata["name"].startswith("trainer-")
    assert metadata["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": POD["TPU2GPU_POD"], "uid": POD["TPU2GPU_POD_UID"]}
    ]
    assert metadata["annotations"]["tpu2gpu/run"] == RUN
    assert len(f"{metadata['name']}-w-0-9999") <= 63  # the pods' names are those of hosts
    assert spec["failurePolicy"]["maxRestarts"] == 3
    worker = pod_spec(manifest)
    assert worker["securityContext"] == {"fsGroup": 1000}  # as the step's own: both write the volume
    assert worker["serviceAccountName"] == "tpu2gpu-worker"
    assert {it["name"] for it in worker["containers"][0]["env"]} >= {"TPU2GPU_RUN"}


def test_examples_that_hosts_cannot_read_where_they_lie_are_laid_where_they_can(
    slice_cluster: FakeJobSets, launching_pod: LaunchingPod
) -> None:
    found: list[str] = []

    def look(held: FakeJobSets, name: str) -> None:
        _, given, _ = exchange_of(held, name).read_step()
        uri = given["inputs"]["artifacts"]["examples"]["artifacts"][0]["uri"]
        found.extend(path.name for path in Path(uri).glob("*"))
        work(held, name)

    slice_cluster.controller = look
    assert entrypoint.main(launching_pod.words) == 0
    assert sorted(found) == ["Split-eval", "Split-train"]


def test_examples_on_google_storage_are_read_where_they_lie(tmp_path: Path) -> None:
    given = {
        "inputs": {"artifacts": {"examples": {"artifacts": [{"uri": "/gcs/bucket/examples"}]}}},
        "outputs": {"artifacts": {}},
    }
    exchange = Exchange(str(tmp_path), "trainer-1")
    exchange.hand_over("a.B", given, "{}", {"/gcs/bucket/examples": "gs://bucket/examples"})
    _, told, _ = exchange.read_step()
    assert told["inputs"]["artifacts"]["examples"]["artifacts"][0]["uri"] == "gs://bucket/examples"
    assert given["inputs"]["artifacts"]["examples"]["artifacts"][0]["uri"] == "/gcs/bucket/examples"


def test_a_preempted_host_starts_all_of_them_again_and_the_log_goes_on(
    slice_cluster: FakeJobSets,
    launching_pod: LaunchingPod,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def preempted(held: FakeJobSets, name: str) -> None:
        held.start_pods(name, phase="Pending")
        for index in range(2):
            held.pod(name, index)["status"]["conditions"] = [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no such nodes"}
            ]
        time.sleep(0.3)
        for index in range(2):
            held.pod(name, index)["status"] = {"phase": "Running"}
        held.say(name, 0, "Epoch 1/5")
        time.sleep(0.2)
        held.say(name, 1, "Socket closed")
        held.end_pod(name, 1, 143, "Error", message="Preempted by the scheduler")
        held.change(name)
        time.sleep(0.3)
        held.restart(name)
        held.say(name, 0, "training goes on after step 10")
        leave_result(held, name)
        finish(held, name)

    slice_cluster.controller = preempted
    assert entrypoint.main(launching_pod.words) == 0
    said = capfd.readouterr()
    assert said.out.count("Epoch 1/5\n") == said.out.count("training goes on after step 10\n") == 1
    assert "[2 of 2 workers wait] Unschedulable: no such nodes" in said.out
    assert "[worker 1] Socket closed" in said.out
    assert "Error Preempted by the scheduler (exit code 143)" in said.out
    assert "all hosts start again (1 so far)" in caplog.text
    assert len(slice_cluster.made) == 1


def test_a_failure_is_told_by_the_last_words_of_the_worker_that_failed_first_by_itself(
    slice_cluster: FakeJobSets, launching_pod: LaunchingPod, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(held: FakeJobSets, name: str) -> None:
        held.start_pods(name)
        held.say(name, 0, "error: training.checkpoint_root: /models/x cannot be written")
        held.say(name, 0, "exit code 2: usage")
        held.end_pod(name, 0, 2)
        held.say(name, 1, "all is well")
        held.end_pod(name, 1, 143)
        held.end(name, "Failed", "FailJobSet", f"job {name}-w-0 failed")

    slice_cluster.controller = fail
    assert entrypoint.main(launching_pod.words) == 5
    said = capfd.readouterr().err
    assert "failed (FailJobSet: job trainer-" in said
    assert "  - worker 0: error: training.checkpoint_root: /models/x cannot be written" in said
    assert "  - worker 0: exit code 2: usage" in said
    assert "  - worker 1" not in said  # which Kubernetes ended because of the other
    assert said.splitlines()[-1] == "exit code 5: failed on the cluster"
    wait_until(lambda: not slice_cluster.sets)


def test_memory_that_ran_out_leaves_no_word_but_kubernetes_own(
    slice_cluster: FakeJobSets, launching_pod: LaunchingPod, capfd: pytest.CaptureFixture[str]
) -> None:
    def run_out(held: FakeJobSets, name: str) -> None:
        held.start_pods(name)
        held.end_pod(name, 1, 137, "OOMKilled")
        held.end_pod(name, 0, 143)
        held.sets[name]["status"] = {"restarts": 3}
        held.end(name, "Failed", "ReachedMaxRestarts", "jobset failed due to reaching max number of restarts")

    slice_cluster.controller = run_out
    assert entrypoint.main(launching_pod.words) == 5
    said = capfd.readouterr().err
    assert "failed after 3 restarts (ReachedMaxRestarts: " in said
    assert "OOMKilled (exit code 137)" in said


def test_a_good_end_without_a_result_is_none(
    slice_cluster: FakeJobSets, launching_pod: LaunchingPod, capfd: Any
) -> None:
    def forget(held: FakeJobSets, name: str) -> None:
        held.start_pods(name)
        finish(held, name)

    slice_cluster.controller = forget
    assert entrypoint.main(launching_pod.words) == 5
    assert "ended well, and left no result at " in capfd.readouterr().err


def test_a_step_that_is_told_to_end_takes_its_job_set_away(
    slice_cluster: FakeJobSets, launching_pod: LaunchingPod, slice_volume: Path
) -> None:
    (slice_volume / "training" / "digest").mkdir(parents=True, exist_ok=True)

    def hang(held: FakeJobSets, name: str) -> None:
        held.start_pods(name)
        held.say(name, 0, "Epoch 1/1000")
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    slice_cluster.controller = hang
    former = signal.getsignal(signal.SIGTERM)
    started = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        entrypoint.main(launching_pod.words)
    assert ended.value.code == 128 + signal.SIGTERM
    assert time.monotonic() - started < 10  # well within the grace of a pod
    assert signal.getsignal(signal.SIGTERM) is former
    wait_until(lambda: not slice_cluster.sets and not slice_cluster.pods)
    assert (slice_volume / "training" / "digest").is_dir()  # the checkpoints are for the next start
