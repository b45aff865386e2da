"""A step on several hosts that starts a second time, and Kubernetes when it refuses, forgets or is away."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest

from tests.pipelines.kubeflow.fake_job_sets import FakeJobSets
from tests.pipelines.kubeflow.slices import (
    LaunchingPod,
    finish,
    leave_result,
    wait_until,
    work,
)
from tpu2gpu_pipelines.kubeflow.container import entrypoint, launching


def test_a_second_start_adopts_what_goes_on(
    slice_cluster: FakeJobSets, launching_pod: LaunchingPod, monkeypatch: Any
) -> None:
    slice_cluster.controller = start_and_let_it_run
    break_off(launching_pod)
    (name,) = slice_cluster.sets
    monkeypatch.setenv("TPU2GPU_POD_UID", "second")
    threading.Timer(0.3, lambda: (leave_result(slice_cluster, name), finish(slice_cluster, name))).start()
    assert entrypoint.main(launching_pod.words) == 0
    assert len(slice_cluster.made) == 1
    assert ("PATCH", f"/apis/jobset.x-k8s.io/v1alpha2/namespaces/team-a/jobsets/{name}") in slice_cluster.requests


@pytest.mark.parametrize("how", ["failed", "of other work", "leaving", "completed without a result"])
def test_a_second_start_replaces_what_is_of_no_use(
    slice_cluster: FakeJobSets, launching_pod: LaunchingPod, how: str
) -> None:
    slice_cluster.controller = start_and_let_it_run
    break_off(launching_pod)
    (name,) = slice_cluster.sets
    standing = slice_cluster.sets[name]
    if how == "failed":
        slice_cluster.end(name, "Failed", "FailedJobs", "x")
    elif how == "completed without a result":
        slice_cluster.end(name, "Completed")
    elif how == "leaving":
        standing["metadata"]["deletionTimestamp"] = "2026-11-29T00:00:00Z"
    else:
        standing["metadata"]["annotations"]["tpu2gpu/work"] = "other"
    slice_cluster.controller = work
    assert entrypoint.main(launching_pod.words) == 0
    assert len(slice_cluster.made) == 2
    first, second = (it["metadata"]["name"] for it in slice_cluster.made)
    assert first == second


def test_a_second_start_takes_a_result_that_is_there(slice_cluster: FakeJobSets, launching_pod: LaunchingPod) -> None:
    slice_cluster.controller = start_and_let_it_run
    break_off(launching_pod)
    (name,) = slice_cluster.sets
    leave_result(slice_cluster, name)
    assert entrypoint.main(launching_pod.words) == 0
    assert len(slice_cluster.made) == 1
    wait_until(lambda: not slice_cluster.sets)


def test_a_result_of_other_work_is_not_taken(slice_cluster: FakeJobSets, launching_pod: LaunchingPod) -> None:
    """As when a run is retried whose examples were made anew."""
    slice_cluster.controller = start_and_let_it_run
    break_off(launching_pod)
    (name,) = slice_cluster.sets
    leave_result(slice_cluster, name)
    place = launching_pod.words.index(entrypoint.INPUT_FLAG) + 1
    words = [*launching_pod.words]
    words[place] = words[place].replace('"train_examples": 1437', '"train_examples": 1436')
    assert words != launching_pod.words
    slice_cluster.controller = work
    assert entrypoint.main(words) == 0
    assert len(slice_cluster.made) == 2


def test_a_finished_one_that_somebody_tidies_up_is_not_made_again(
    slice_cluster: FakeJobSets, launching_pod: LaunchingPod
) -> None:
    def tidy(held: FakeJobSets, name: str) -> None:
        held.start_pods(name)
        leave_result(held, name)
        held.remove(name)

    slice_cluster.controller = tidy
    assert entrypoint.main(launching_pod.words) == 0
    assert len(slice_cluster.made) == 1


def test_a_step_that_is_told_to_end_while_nobody_answers_still_takes_its_job_set_away(
    slice_cluster: FakeJobSets, launching_pod: LaunchingPod
) -> None:
    def hang(held: FakeJobSets, name: str) -> None:
        held.start_pods(name)
        held.faults = [("GET", f"/jobsets/{name}", 503)] * 1000
        held.change(name)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    slice_cluster.controller = hang
    with pytest.raises(SystemExit):
        entrypoint.main(launching_pod.words)
    wait_until(lambda: not slice_cluster.sets)


def start_and_let_it_run(held: FakeJobSets, name: str) -> None:
    held.start_pods(name)


def break_off(launching_pod: LaunchingPod) -> None:
    """A first start that ended as by SIGKILL: it took nothing away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launching, "_watch", lambda *_: killed())
        patch.setattr(launching, "_clear", lambda *_: None)
        with pytest.raises(KilledError):
            entrypoint.run_step(launching_pod.words)


class KilledError(BaseException):
    pass


def killed() -> None:
    raise KilledError


def test_one_that_somebody_deletes_is_made_again_as_often_as_retries_allow(
    slice_cluster: FakeJobSets, launching_pod: LaunchingPod, capfd: pytest.CaptureFixture[str]
) -> None:
    def vanish(held: FakeJobSets, name: str) -> None:
        held.start_pods(name)
        time.sleep(0.1)
        if len(held.made) == 3:
            leave_result(held, name)
            finish(held, name)
        else:
            held.remove(name)

    slice_cluster.controller = vanish
    assert entrypoint.main(launching_pod.words) == 0
    assert len(slice_cluster.made) == 3
    slice_cluster.made.clear()
    slice_cluster.controller = lambda held, name: held.remove(name)
    assert entrypoint.main(launching_pod.words) == 5
    assert len(slice_cluster.made) == 4
    assert "somebody deletes it" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("method", "part", "says"),
    [
        ("POST", "/jobsets", "the step's service account lacks a right: 403 Forbidden"),
        ("GET", "/jobsets/", "the step's service account lacks a right: 403 Forbidden"),
        ("GET", "/pods", "--rights | kubectl apply -f -"),
    ],
)
def test_a_right_that_is_wanting_is_told_with_the_way_to_it(
    slice_cluster: FakeJobSets,
    launching_pod: LaunchingPod,
    method: str,
    part: str,
    says: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    slice_cluster.controller = work
    slice_cluster.faults = [(method, part, 403)] * (8 if part == "/pods" else 1)
    assert entrypoint.main(launching_pod.words) == 4
    assert says in capfd.readouterr().err
    wait_until(lambda: not slice_cluster.sets)


def test_a_cluster_without_job_sets_is_told(
    slice_cluster: FakeJobSets, launching_pod: LaunchingPod, capfd: pytest.CaptureFixture[str]
) -> None:
    slice_cluster.installed = False
    assert entrypoint.main(launching_pod.words) == 4
    assert "the cluster knows no JobSets (jobset.x-k8s.io/v1alpha2)" in capfd.readouterr().err


def test_one_that_was_made_although_no_answer_came_is_taken_for_ours(
    slice_cluster: FakeJobSets, launching_pod: LaunchingPod
) -> None:
    made = slice_cluster.answer

    def lose_the_answer(method: str, path: str, query: Any, body: Any) -> Any:
        status, said = made(method, path, query, body)
        return (500, {}) if method == "POST" and status == 201 else (status, said)

    slice_cluster.answer = lose_the_answer  # type: ignore[method-assign]
    slice_cluster.controller = work
    assert entrypoint.main(launching_pod.words) == 0
    assert len(slice_cluster.made) == 1


def test_an_api_server_that_is_away_for_a_while_ends_no_training(
    slice_cluster: FakeJobSets,
    launching_pod: LaunchingPod,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def trouble(held: FakeJobSets, name: str) -> None:
        held.start_pods(name)
        held.say(name, 0, "Epoch 1/2")
        held.say(name, 0, "a line in whose midst the connection breaks CUT")
        held.say(name, 0, "Epoch 2/2")
        time.sleep(0.2)
        held.faults = [
            *[("GET", "/jobsets", status) for status in (503, 500, 429, 401, 410)],
            ("GET", "/pods", 503),
        ]
        while held.faults:
            held.change(name)
            time.sleep(0.05)
        held.faults = [("WATCH", "gone", 410)]
        while held.faults:
            held.change(name)
            time.sleep(0.05)
        leave_result(held, name)
        finish(held, name)

    slice_cluster.controller = trouble
    assert entrypoint.main(launching_pod.words) == 0
    said = capfd.readouterr()
    for line in ("Epoch 1/2", "a line in whose midst the connection breaks", "Epoch 2/2"):
        assert said.out.count(f"{line}\n") == 1
    assert "asked again in" in caplog.text


def test_a_job_set_that_nobody_can_be_asked_about_is_left_for_the_next_try(
    slice_cluster: FakeJobSets, launching_pod: LaunchingPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "_SILENCE_S", 0.0)

    def away_then_back(held: FakeJobSets, name: str) -> None:
        held.start_pods(name)
        time.sleep(0.2)
        held.faults = [("GET", f"/jobsets/{name}", 503)]
        time.sleep(0.2)
        leave_result(held, name)
        finish(held, name)

    slice_cluster.controller = away_then_back
    assert entrypoint.main(launching_pod.words) == 0  # by a retry inside of the pod
    assert len(slice_cluster.made) == 1


def test_a_step_outside_of_a_pod_says_so(
    slice_cluster: FakeJobSets,
    launching_pod: LaunchingPod,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("TPU2GPU_POD_UID")
    assert entrypoint.main(launching_pod.words) == 4
    assert "TPU2GPU_POD_UID: not set" in capfd.readouterr().err
    assert not slice_cluster.made
