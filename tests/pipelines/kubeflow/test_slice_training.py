"""The launched command itself, in a process for each host: they train together, and a lost host costs no checkpoint."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.kubeflow.fake_job_sets import FakeJobSets
from tests.pipelines.kubeflow.slices import POD, RUN, LaunchingPod, compiled_slice, pod_spec
from tests.pipelines.test_resuming import EVERY, STEPS, wait_for_checkpoint
from tpu2gpu_pipelines.kubeflow.compiler.specification import WORKER
from tpu2gpu_pipelines.kubeflow.container import entrypoint, executor_input, tpu_worker

SCRIPT = Path(__file__).with_name("worker.py")
PATIENCE_S = 300


class Hosts:
    """Runs the pods of a set as processes, as a controller and GKE would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.codes: list[int] = []

    def start(self, held: FakeJobSets, name: str) -> None:
        """A process for each pod, with what GKE injects into its environment."""
        (container,) = pod_spec(held.sets[name])["containers"]
        assert container["command"] == list(WORKER)
        ports = [free_port() for _ in range(2)]
        threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
        own = {each["name"]: each["value"] for each in container["env"]}
        others = {key: value for key, value in os.environ.items() if not key.startswith("TPU")}
        injected = {"TPU_WORKER_HOSTNAMES": ",".join(f"127.0.0.1:{port}" for port in ports)}
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(SCRIPT), *container["args"]],
                env={
                    **others,
                    **threads,
                    **own,
                    **injected,
                    "TPU_WORKER_ID": str(index),
                    "PYTHONPATH": os.pathsep.join(sys.path),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for index in range(2)
        ]
        for index, process in enumerate(self.processes):
            threading.Thread(target=self._copy, args=(held, name, index, process), daemon=True).start()

    def _copy(self, held: FakeJobSets, name: str, index: int, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout
        for line in process.stdout:
            held.say(name, index, line.decode(errors="replace").rstrip("\n"))

    def wait(self, held: FakeJobSets, name: str) -> list[int]:
        """Until all have ended; one that failed takes the others with it."""
        deadline = time.monotonic() + PATIENCE_S
        while any(process.poll() is None for process in self.processes):
            assert time.monotonic() < deadline
            time.sleep(0.05)
            if any(process.poll() not in (None, 0) for process in self.processes):
                time.sleep(5)  # Kubernetes takes longer
                for process in self.processes:
                    process.terminate()
        time.sleep(0.2)  # for their last lines
        codes = [process.returncode for process in self.processes]
        for index, code in enumerate(codes):
            held.end_pod(name, index, 128 - code if code < 0 else code)
        return codes


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.mark.slow
def test_two_hosts_train_together_and_go_on_after_one_was_lost(
    slice_cluster: FakeJobSets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    volume = tmp_path / "volume"
    (volume / "training").mkdir(parents=True)
    pod = LaunchingPod(compiled_slice(volume), tmp_path)
    for name, value in {**POD, "TPU2GPU_RUN": RUN, "TPU2GPU_PIPELINE": "tpu2gpu-digits"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(executor_input, "_MOUNTS", {"minio://": f"{tmp_path / 'minio'}/"})
    hosts = Hosts(tmp_path)
    trouble: list[Any] = []

    def play(held: FakeJobSets, name: str) -> None:
        try:
            held.start_pods(name)
            hosts.start(held, name)
            wait_for_checkpoint(2 * EVERY, hosts.processes[0], volume / "training")
            hosts.processes[1].kill()  # its host is gone
            hosts.codes += hosts.wait(held, name)
            held.change(name)
            held.restart(name)
            hosts.start(held, name)
            hosts.codes += hosts.wait(held, name)
            held.end(name, "Completed", "AllJobsCompleted", "jobset completed successfully")
        except BaseException as error:
            trouble.append(error)
            held.end(name, "Failed", "TheTest", repr(error))

    slice_cluster.controller = play
    code = entrypoint.main(pod.words)
    for process in hosts.processes:
        process.kill()
    said = capfd.readouterr()
    assert (code, trouble) == (0, []), said.out + said.err
    assert hosts.codes == [tpu_worker.START_AGAIN, -9, 0, 0], said.out
    summary = json.loads((pod.output("model_run") / "training.json").read_text())
    assert (summary["replicas"], summary["strategy"]) == (2, "MirroredStrategy")
    assert summary["steps"] == STEPS
    assert summary["resumed_after_step"] in (EVERY, 2 * EVERY, 3 * EVERY, 4 * EVERY)
    assert (pod.output("model") / "Format-Serving" / "saved_model.pb").is_file()
    assert "all 2 hosts are there" in said.out  # the first worker's log is the step's
    assert f"training goes on after step {summary['resumed_after_step']}" in said.out
    assert not [path for path in (volume / "training").rglob("*") if path.is_file()]
