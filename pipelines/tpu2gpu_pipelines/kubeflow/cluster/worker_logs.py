"""What the workers of a JobSet say: the first one's log as it comes, and the last words of any that failed."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from tpu2gpu.errors import EnvironmentLacksError, RemoteRunError, Tpu2GpuError
from tpu2gpu_pipelines.kubeflow.cluster.job_sets import JobSets
from tpu2gpu_pipelines.kubeflow.cluster.kubernetes_api import why_waiting
from tpu2gpu_pipelines.kubeflow.cluster.last_words import telling_lines

_SEARCHED_LINES = 60
_LOOK_EVERY_S = 2.0
_LAST_LOOK_S = 15.0
_TAKEN_AWAY = (137, 143)  # by SIGKILL and SIGTERM: mostly because another worker had failed


def to_stdout(line: str) -> None:
    """Write a line into the step's own log."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class FirstWorkerLog:
    """Copies the log of the first worker, and of the one that takes its place after a restart, line by line.

    Args:
        job_sets: Where.
        name: The JobSet's name.
        write: Takes a line.
    """

    def __init__(self, job_sets: JobSets, name: str, write: Callable[[str], None] = to_stdout) -> None:
        self._job_sets, self._name, self._write = job_sets, name, write
        self._ending = threading.Event()
        self._last: dict[str, tuple[bytes, int]] = {}  # the last line's time, how many had it, by the pod's identity
        self._read: set[str] = set()
        self._thread = threading.Thread(target=self._copy, daemon=True, name="first worker's log")

    def __enter__(self) -> FirstWorkerLog:
        """Begin to copy."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop, as soon as what is there has been copied; at once where there is no time."""
        self._ending.set()
        if kind is None:
            self._thread.join(_LAST_LOOK_S)

    def _copy(self) -> None:
        while True:
            ending = self._ending.is_set()
            try:
                self._copy_what_is_there()
            except EnvironmentLacksError as error:
                self._write(f"the workers' log cannot be shown: {error}")
                return
            except RemoteRunError as error:  # the container has not started yet, or the pod went
                logging.getLogger("tpu2gpu").debug("%s", error)
            if ending:
                return
            self._ending.wait(_LOOK_EVERY_S)

    def _copy_what_is_there(self) -> None:
        pod = self._job_sets.pods(self._name).get(0)
        if pod is None or pod.metadata.uid in self._read or pod.status.phase not in ("Running", "Succeeded", "Failed"):
            return
        uid, ended = pod.metadata.uid, pod.status.phase != "Running"
        again, before = 0, b""
        for line in self._job_sets.log(pod.metadata.name, follow=True):
            time, _, text = line.partition(b" ")
            last, count = self._last.get(uid, (b"", 0))
            again, before = again + 1 if time == before else 1, time
            if time < last or (time == last and again <= count):
                continue  # read before, until the connection broke
            self._last[uid] = (time, again)
            self._write(text.decode("utf-8", errors="replace"))
        if ended:
            self._read.add(uid)


@attrs.define
class Failures:
    """The last words of the workers that failed, told once each.

    Args:
        job_sets: Where.
        name: The JobSet's name.
        write: Takes a line for the step's log.
    """

    job_sets: JobSets
    name: str
    write: Callable[[str], None] = to_stdout
    told: dict[str, list[str]] = attrs.field(factory=dict)
    waiting: str = ""

    def look(self) -> None:
        """Write down which workers have failed since the last look, and why those wait that do."""
        pods = self.job_sets.pods(self.name)
        for index, pod in sorted(pods.items()):
            if pod.status.phase == "Failed" and pod.metadata.uid not in self.told:
                lines = self._last_words(pod)
                self.told[pod.metadata.uid] = [f"worker {index}: {line}" for line in lines]
                for line in lines:
                    self.write(f"[worker {index}] {line}")
        reasons = [(index, why_waiting(pod.status)) for index, pod in sorted(pods.items()) if _waits(pod)]
        waiting = "; ".join(dict.fromkeys(reason for _, reason in reasons))
        if waiting and waiting != self.waiting:
            self.write(f"[{len(reasons)} of {len(pods)} workers wait] {waiting}")
        self.waiting = waiting

    def explain(self) -> list[str]:
        """Return the last words of the workers that failed last: of those that ended by themselves, if any did."""
        failed = [pod for pod in self.job_sets.pods(self.name).values() if pod.status.phase == "Failed"]
        own = [pod for pod in failed if _exit_of(pod).get("code") not in _TAKEN_AWAY] or failed
        lines = [line for pod in own for line in self.told.get(pod.metadata.uid, [])]
        return lines or (list(self.told.values())[-1] if self.told else [])

    def _last_words(self, pod: Any) -> list[str]:
        ended = _exit_of(pod)
        how = " ".join(filter(None, (ended.get("reason"), str(pod.status.reason or ""), pod.status.message)))
        try:
            log = self.job_sets.log(pod.metadata.name, last=_SEARCHED_LINES)
            lines = telling_lines([line.decode("utf-8", errors="replace").rstrip() for line in log])
        except Tpu2GpuError:  # the pod or its log is gone
            lines = []
        end = f"{pod.metadata.name}: {how or 'failed'} (exit code {ended.get('code', 'unknown')})"
        return [*lines, end]


def _exit_of(pod: Any) -> Mapping[str, Any]:
    states = [it.state.terminated for it in pod.status.container_statuses or [] if it.state and it.state.terminated]
    return {"code": states[0].exit_code, "reason": states[0].reason} if states else {}


def _waits(pod: Any) -> bool:
    return pod.status.phase == "Pending"
