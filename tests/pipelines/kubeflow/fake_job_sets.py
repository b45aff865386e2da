"""The part of Kubernetes' API that JobSets need, over HTTP, with a controller that a test plays.

It says what the API server says (kubernetes/apiserver, apimachinery) and JobSet's controller writes
(kubernetes-sigs/jobset, pkg/controllers): an unknown API group is a plain `404 page not found`; a watch ends when its
time is over, and with an ERROR event of code 410 when it began too early; a JobSet that is deleted in the foreground
stands, with a deletionTimestamp, until its pods are gone; a restart takes the old pods away and makes new ones of the
same names but for a suffix. It is meaner than a real one: pieces of what it streams break inside of letters.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import attrs

NAMESPACE = "team-a"
_SETS = f"/apis/jobset.x-k8s.io/v1alpha2/namespaces/{NAMESPACE}/jobsets"
_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
_EPOCH = datetime(2026, 11, 29, tzinfo=timezone.utc).timestamp()

Controller = Callable[["FakeJobSets", str], None]


@attrs.define(slots=False)
class FakeJobSets:
    """What the cluster holds.

    Attributes:
        controller: Plays a JobSet that was made, on a thread of its own.
        installed: Whether the cluster knows JobSets.
        faults: Answers to give once instead of the right one: method, part of the path, status.
        requests: Method and path of all that was asked.
        log: Of each pod, its lines' bytes with their time.
    """

    controller: Controller = lambda held, name: None
    url: str = ""
    installed: bool = True
    faults: list[tuple[str, str, int]] = attrs.field(factory=list)
    requests: list[tuple[str, str]] = attrs.field(factory=list)
    sets: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    pods: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    log: dict[str, list[bytes]] = attrs.field(factory=dict)
    made: list[dict[str, Any]] = attrs.field(factory=list)
    own_pod: dict[str, Any] = attrs.field(factory=dict)
    slow_to_go_s: float = 0.1
    _version: int = 100
    _changed: threading.Condition = attrs.field(factory=threading.Condition)

    # What a controller does.

    def start_pods(self, name: str, phase: str = "Running", attempt: int = 0) -> None:
        """The pods of a set, one for each index."""
        (job,) = self.sets[name]["spec"]["replicatedJobs"]
        for index in range(job["template"]["spec"]["completions"]):
            pod = f"{name}-w-0-{index}-{attempt:05x}"
            self.pods[pod] = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": pod,
                    "uid": str(uuid4()),
                    "creationTimestamp": datetime.fromtimestamp(_EPOCH + self._next(), timezone.utc).isoformat(),
                    "labels": {
                        "jobset.sigs.k8s.io/jobset-name": name,
                        "batch.kubernetes.io/job-completion-index": str(index),
                    },
                },
                "status": {"phase": phase},
            }
            self.log[pod] = []

    def pod(self, name: str, index: int) -> dict[str, Any]:
        """The newest pod of an index."""
        found = [pod for pod in self.pods.values() if pod["metadata"]["name"].startswith(f"{name}-w-0-{index}-")]
        return found[-1]

    def say(self, name: str, index: int, text: str) -> None:
        """A line in a pod's log."""
        stamp = f"2026-11-29T00:00:{self._next() // 3:09d}Z "  # three lines share a time
        self.log[self.pod(name, index)["metadata"]["name"]].append(stamp.encode() + text.encode() + b"\n")

    def end_pod(self, name: str, index: int, code: int, reason: str = "", **status: Any) -> None:
        """A container that ended."""
        ended = {"exitCode": code, "reason": reason or ("Error" if code else "Completed")}
        self.pod(name, index)["status"] = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": "worker", "state": {"terminated": ended}, "image": "", "imageID": ""}],
            **status,
        }
        for field in ("ready", "restartCount"):
            self.pod(name, index)["status"]["containerStatuses"][0][field] = 0

    def restart(self, name: str) -> None:
        """All pods go, and new ones come."""
        status = self.sets[name].setdefault("status", {})
        status["restarts"] = status.get("restarts", 0) + 1
        self._drop_pods(name)
        self.start_pods(name, attempt=status["restarts"])
        self.change(name)

    def end(self, name: str, kind: str, reason: str = "", message: str = "") -> None:
        """The set's last condition."""
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        status = self.sets[name].setdefault("status", {})
        status["conditions"] = [{"type": "StartupPolicyCompleted", "status": "False"}, condition]
        status["terminalState"] = kind
        self.change(name)

    def change(self, name: str) -> None:
        """Tell those who watch."""
        with self._changed:
            if name in self.sets:
                self.sets[name]["metadata"]["resourceVersion"] = str(self._next())
            self._changed.notify_all()

    def remove(self, name: str) -> None:
        """At once, as another would do it with kubectl."""
        self.sets.pop(name, None)
        self._drop_pods(name)
        self.change(name)

    # What the API server answers.

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        self.requests.append((method, path))
        for fault in self.faults:
            if fault[0] == method and fault[1] in path:
                self.faults.remove(fault)
                return fault[2], status_of(fault[2], f"{path}: {fault[2]}")
        if path.startswith(_SETS):
            return self._set(method, path.removeprefix(_SETS).strip("/"), query, body)
        if path == _PODS:
            _, _, wanted = query.get("labelSelector", "=").partition("=")
            found = [it for it in self.pods.values() if it["metadata"]["labels"].get(_label()) == wanted]
            return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found}
        name, _, part = path.removeprefix(f"{_PODS}/").partition("/")
        if self.own_pod.get("metadata", {}).get("name") == name:
            return 200, self.own_pod
        if name not in self.pods:
            return 404, status_of(404, f'pods "{name}" not found')
        if part == "log" and self.pods[name]["status"]["phase"] == "Pending":
            return 400, status_of(400, f'container "worker" in pod "{name}" is waiting to start: ContainerCreating')
        return 200, self._log(name, query) if part == "log" else self.pods[name]

    def _set(self, method: str, name: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if not self.installed:
            return 404, "404 page not found\n"
        if method == "POST":
            return self._create(body)
        if not name:
            assert query["watch"] == "True" and query["fieldSelector"].startswith("metadata.name=")
            return 200, self._watch(query)
        if name not in self.sets:
            return 404, status_of(404, f'jobsets.jobset.x-k8s.io "{name}" not found')
        if method == "PATCH":
            ((operation, path, value),) = [(it["op"], it["path"], it["value"]) for it in body]
            assert (operation, path) == ("add", "/metadata/ownerReferences")
            self.sets[name]["metadata"]["ownerReferences"] = value
        if method == "DELETE":
            self._delete(name, query)
        return 200, self.sets.get(name, {})

    def _create(self, body: Any) -> tuple[int, Any]:
        name = body["metadata"]["name"]
        if name in self.sets:
            return 409, status_of(409, f'jobsets.jobset.x-k8s.io "{name}" already exists')
        self.made.append(json.loads(json.dumps(body)))
        body["metadata"] |= {"uid": str(uuid4()), "resourceVersion": str(self._next())}
        self.sets[name] = body
        threading.Thread(target=self.controller, args=(self, name), daemon=True).start()
        return 201, body

    def _delete(self, name: str, query: dict[str, str]) -> None:
        assert query.get("propagationPolicy") == "Foreground"
        self.sets[name]["metadata"]["deletionTimestamp"] = "2026-11-29T00:00:00Z"
        uid = self.sets[name]["metadata"]["uid"]

        def finish() -> None:
            time.sleep(self.slow_to_go_s)
            if self.sets.get(name, {}).get("metadata", {}).get("uid") == uid:
                self.remove(name)

        self.change(name)
        threading.Thread(target=finish, daemon=True).start()

    def _watch(self, query: dict[str, str]) -> Iterator[bytes]:
        name, asked = query["fieldSelector"].partition("=")[2], query["resourceVersion"]
        if self.faults and self.faults[0][:2] == ("WATCH", "gone"):
            self.faults.pop(0)
            yield json.dumps({"type": "ERROR", "object": status_of(410, "too old resource version")}).encode() + b"\n"
            return
        deadline = time.monotonic() + float(query["timeoutSeconds"])
        while time.monotonic() < deadline:
            with self._changed:
                now = self.sets.get(name)
                if now is None or now["metadata"]["resourceVersion"] != asked:
                    kind = "DELETED" if now is None else "MODIFIED"
                    yield json.dumps({"type": kind, "object": now or {}}).encode() + b"\n"
                    return
                self._changed.wait(0.1)

    def _log(self, name: str, query: dict[str, str]) -> Iterator[bytes]:
        assert query["container"] == "worker"
        sent, stamped = 0, query.get("timestamps") == "True"
        lines = self.log[name]
        if last := int(query.get("tailLines", 0)):
            sent = max(0, len(lines) - last)
        while True:
            while sent < len(lines):
                line = lines[sent] if stamped else lines[sent].partition(b" ")[2]
                sent += 1
                if line.endswith(b" CUT\n"):  # the connection breaks after a part of it
                    lines[sent - 1] = lines[sent - 1].replace(b" CUT\n", b"\n")
                    yield line[:40]
                    raise ConnectionAbortedError
                yield line[:33]  # perhaps in the midst of a letter
                yield line[33:]
            ended = name not in self.pods or self.pods[name]["status"]["phase"] != "Running"
            if query.get("follow") != "True" or ended:
                return
            time.sleep(0.02)

    def _drop_pods(self, name: str) -> None:
        for pod in [pod for pod in self.pods if pod.startswith(f"{name}-w-0-")]:
            del self.pods[pod]

    def _next(self) -> int:
        self._version += 1
        return self._version


def _label() -> str:
    return "jobset.sigs.k8s.io/jobset-name"


def status_of(code: int, message: str) -> dict[str, Any]:
    reasons = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "AlreadyExists"}
    reason = reasons.get(code, "Expired" if code == 410 else "InternalError")
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


@contextmanager
def serve_job_sets() -> Iterator[FakeJobSets]:
    """Runs the API server while the block runs."""
    held = FakeJobSets()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urllib.parse.urlparse(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            status, said = held.answer(self.command, url.path, query, json.loads(content) if content else None)
            if isinstance(said, dict | str):
                answer = said.encode() if isinstance(said, str) else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain" if isinstance(said, str) else "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                return
            self.send_response(status)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for piece in said:
                    if piece:
                        self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                        self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")
            except ConnectionError:
                self.close_connection = True

        do_GET = do_POST = do_DELETE = do_PATCH = _handle  # noqa: N815 - the base class's names

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
