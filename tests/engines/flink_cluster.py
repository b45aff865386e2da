"""A real Flink cluster on this machine: a job manager, task managers and Beam's job server, each a process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_HERE = Path(__file__).parent
_LIBRARY = _HERE.parents[1] / "build" / "flink"
_OPENS = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.util", "java.lang", "java.nio", "sun.net.util")]  # fmt: skip # noqa: E501
_CONFIGURATION = """\
jobmanager.rpc.address: localhost
jobmanager.rpc.port: {rpc}
rest.port: {rest}
rest.address: localhost
jobmanager.memory.process.size: 1024m
taskmanager.memory.process.size: 1536m
taskmanager.numberOfTaskSlots: 1
parallelism.default: 2
heartbeat.timeout: 6000
heartbeat.interval: 1000
akka.ask.timeout: 10 s
restart-strategy: fixed-delay
restart-strategy.fixed-delay.attempts: 5
restart-strategy.fixed-delay.delay: 1 s
"""
# Flink's shell scripts compute these; its class wants each of them.
_MEMORY = {
    "taskmanager.cpu.cores": "1.0",
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.task.heap.size": "256m",
    "taskmanager.memory.task.off-heap.size": "0b",
    "taskmanager.memory.network.min": "64m",
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.managed.size": "128m",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.min": "192m",
    "taskmanager.memory.jvm-overhead.max": "192m",
}


def why_not() -> str:
    """Why this machine cannot have a cluster, or nothing."""
    missing = [program for program in ("java", "mvn") if shutil.which(program) is None]
    return f"no Flink cluster: {' and '.join(missing)} not installed" if missing else ""


def fetch() -> str:
    """Fetches Flink and Beam's job server (140 packages) with Maven, once; returns why that failed, or nothing."""
    done = _LIBRARY / ".done"
    if done.is_file() and done.read_text() == (_HERE / "pom.xml").read_text():
        return ""
    command = ["mvn", "-q", "-B", "-f", str(_HERE / "pom.xml"), "dependency:copy-dependencies"]
    run = subprocess.run([*command, f"-DoutputDirectory={_LIBRARY}"], capture_output=True, text=True, check=False)
    if run.returncode:
        lines = (run.stdout + run.stderr).strip().splitlines() or ["no reason given"]
        return f"no Flink cluster: Maven cannot fetch it ({lines[0]})"
    done.write_text((_HERE / "pom.xml").read_text())
    return ""


class FlinkCluster:
    """Starts a cluster; `with` stops it, workers included.

    Args:
        folder: An empty folder for its configuration and logs.
        task_managers: How many; each runs one worker.
    """

    def __init__(self, folder: Path, task_managers: int = 2) -> None:
        self.folder = folder
        self._count = task_managers
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        rpc, self._rest, self._jobs = _free_port(), _free_port(), _free_port()
        self.rest = f"http://localhost:{self._rest}"
        (folder / "flink-conf.yaml").write_text(_CONFIGURATION.format(rpc=rpc, rest=self._rest))
        worker = folder / "worker.sh"
        worker.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" "{_HERE / "beam_worker.py"}" "$@" >>"{folder}/worker.log" 2>&1\n'
        )
        worker.chmod(0o755)
        self.beam_arguments = (
            f"--job_endpoint=localhost:{self._jobs}",
            "--environment_type=PROCESS",
            f'--environment_config={{"command": "{worker}"}}',
            f"--parallelism={task_managers}",
        )

    def __enter__(self) -> FlinkCluster:
        try:
            flink = "org.apache.flink.runtime"
            self._start(
                "job manager", [*_OPENS, "-Xmx512m"], [f"{flink}.entrypoint.StandaloneSessionClusterEntrypoint"]
            )
            self._wait("the job manager", lambda: _answers(self.rest + "/overview"))
            for number in range(self._count):
                self.start_task_manager(f"task manager {number}")
            self._wait("the task managers", lambda: f'"taskmanagers":{self._count}' in _get(self.rest + "/overview"))
            server = ["org.apache.beam.runners.flink.FlinkJobServerDriver", f"--job-port={self._jobs}"]
            server += ["--artifact-port=0", "--expansion-port=0", f"--flink-master={self.rest}"]
            self._start("job server", [*_OPENS, "-Xmx512m"], [*server, f"--artifacts-dir={self.folder / 'artifacts'}"])
            self._wait("the job server", lambda: _listens(self._jobs))
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start_task_manager(self, name: str) -> None:
        """Starts one more task manager."""
        main = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        settings = [f"-Dtaskmanager.resource-id={name.replace(' ', '-')}", "-Dtaskmanager.numberOfTaskSlots=1"]
        settings += [f"-D{key}={value}" for key, value in _MEMORY.items()]
        self._start(name, [*_OPENS, "-Xmx512m", "-XX:MaxDirectMemorySize=512m"], [main], settings)

    def kill(self, name: str) -> None:
        """Kills a process of the cluster and its workers as a power cut would."""
        self._kill_group(self._processes.pop(name))

    def stop(self) -> None:
        """Kills what runs."""
        while self._processes:
            self._kill_group(self._processes.popitem()[1])

    def task_manager_of(self, worker: int) -> str:
        """Which task manager a worker process belongs to."""
        for name, process in self._processes.items():
            with suppress(ProcessLookupError):
                if os.getpgid(worker) == process.pid:
                    return name
        raise LookupError(f"process {worker} is none of the cluster's")

    def log(self) -> str:
        """The last lines of every log."""
        texts = [f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in self.folder.glob("*.log")]
        return "\n".join(texts)

    def _start(self, name: str, machine: list[str], main: list[str], settings: list[str] | None = None) -> None:
        own = ["--configDir", str(self.folder)] if "flink.runtime" in main[0] else []
        with (self.folder / f"{name.replace(' ', '-')}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                ["java", *machine, "-cp", f"{_LIBRARY}/*", *main, *own, *(settings or [])],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own: its workers die with it
            )

    def _wait(self, what: str, ready: object, seconds: float = 90) -> None:
        assert callable(ready)
        end = time.monotonic() + seconds
        while not ready():
            dead = [name for name, process in self._processes.items() if process.poll() is not None]
            if dead or time.monotonic() > end:
                raise RuntimeError(f"{what} did not start ({', '.join(dead) or 'no answer'})\n{self.log()}")
            time.sleep(0.3)

    @staticmethod
    def _kill_group(process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
        return True
    return False


def _get(address: str) -> str:
    with suppress(OSError), urllib.request.urlopen(address, timeout=2) as answer:
        return str(answer.read().decode())
    return ""


def _answers(address: str) -> bool:
    return bool(_get(address))
