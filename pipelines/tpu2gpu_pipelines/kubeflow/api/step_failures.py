"""Why a run failed: each failed step with the last words of its log, drivers included.

The server's record of a failed step holds no reason: it is in the log of the step's pod, which the API server gives as
long as the pod is there, and from the archive later. A driver that failed has a task of its own, under a name that is
no step's; what it belongs to is found by its parents.

Source: https://github.com/kubeflow/pipelines, backend/src/apiserver/main.go (path of the log) and
backend/api/v2beta1/run.proto (PipelineTaskDetail).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from tpu2gpu.errors import RemoteRunError
from tpu2gpu_pipelines.kubeflow.api.server import Server
from tpu2gpu_pipelines.kubeflow.cluster.last_words import shortened, telling_lines

_FAILED = ("FAILED", "SYSTEM_ERROR")
_REFUSAL = "not promoted: "
_SEARCHED_LINES = 60


def explain_failure(server: Server, run: Any, steps: Sequence[str]) -> list[str]:
    """Return for each failed step its name, its last words and where the dashboard shows it.

    Args:
        server: Where the run is.
        run: The run, as the server tells of it.
        steps: The names of the pipeline's steps.
    """
    tasks = list(getattr(run.run_details, "task_details", None) or [])
    found: dict[str, list[str]] = {}
    for task in _innermost([task for task in tasks if task.state in _FAILED]):
        name = _step_of(task, tasks, steps)
        lines = _last_words(server, run.run_id, task) or _recorded(task) or [str(task.state).lower()]
        link = server.link(f"executions/{task.execution_id}") if task.execution_id else ""
        found.setdefault(name, []).extend([f"{lines[0]} ({link})" if link else lines[0], *lines[1:]])
    if not found and (message := getattr(run.error, "message", "")):
        return [shortened(message)]
    return [f"{name}: {line}" for name, lines in found.items() for line in lines]


def explain_refusal(server: Server, run: Any, steps: Sequence[str]) -> list[str]:
    """Return what the steps of a run that ended well said of a model that they did not promote."""
    lines = []
    for task in getattr(run.run_details, "task_details", None) or []:
        if task.display_name not in steps:
            continue
        for pod in _pods(task):
            with suppress(RemoteRunError):  # the pod is gone, and nobody kept its log
                log = server.read_log(run.run_id, pod).splitlines()
                lines += [shortened(line.partition(_REFUSAL)[2]) for line in log if _REFUSAL in line]
    return list(dict.fromkeys(lines))


def _innermost(failed: Sequence[Any]) -> list[Any]:
    """Leave out a task that failed because one below it did."""
    parents = {task.parent_task_id for task in failed if task.parent_task_id}
    return [task for task in failed if task.task_id not in parents] or list(failed)


def _step_of(task: Any, tasks: Sequence[Any], steps: Sequence[str]) -> str:
    by_id = {each.task_id: each for each in tasks}
    current, seen = task, set()
    while current is not None and current.task_id not in seen:
        if current.display_name in steps:
            return str(current.display_name)
        seen.add(current.task_id)
        current = by_id.get(current.parent_task_id)
    name = str(task.display_name or task.task_id)
    return next((f"{step} ({name})" for step in steps if name.startswith(f"{step}-")), name)


def _last_words(server: Server, run_id: str, task: Any) -> list[str]:
    for pod in _pods(task):
        try:
            lines = [line.rstrip() for line in server.read_log(run_id, pod).splitlines() if line.strip()]
        except RemoteRunError:
            continue  # the pod is gone, and nobody kept its log
        if lines:
            return telling_lines(lines[-_SEARCHED_LINES:])
    return []


def _pods(task: Any) -> Iterator[str]:
    if task.pod_name:
        yield task.pod_name
    yield from (child.pod_name for child in task.child_tasks or [] if child.pod_name)


def _recorded(task: Any) -> list[str]:
    message = getattr(task.error, "message", "") if task.error else ""
    return [shortened(message)] if message else []
