"""The part of Kubernetes' API that the doctor asks, over HTTP; its pods run here, as the user that their manifest says.

Source: https://kubernetes.io/docs/reference/kubernetes-api/ (paths, kinds, and `Status` for what is refused).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which
from typing import Any

import attrs

IMAGE_USER = 1000


@attrs.define
class FakeCluster:
    """What the cluster holds, by its paths, and what was asked of it.

    Attributes:
        objects: Each object that can be read, by its path.
        forbidden: The part of a path that nobody may look at.
        pods: The pods that were started, by name, with their end.
        denied: What no service account may do: verb, resource, subresource.
        reviewed: Whose rights were asked for, and which.
    """

    url: str = ""
    objects: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    forbidden: str = "\0"
    pods: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    logs: dict[str, str] = attrs.field(factory=dict)
    denied: set[tuple[str, str, str]] = attrs.field(factory=set)
    reviewed: list[dict[str, Any]] = attrs.field(factory=list)
    deleted: list[str] = attrs.field(factory=list)

    def has(self, path: str, kind: str, **content: Any) -> None:
        """Puts an object there; the content is its further fields."""
        metadata = {"name": path.rpartition("/")[2], **content.pop("metadata", {})}
        self.objects[path] = {"apiVersion": "v1", "kind": kind, "metadata": metadata, **content}

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.forbidden in path:
            return 403, _status(403, "Forbidden", f"{path} is forbidden")
        if pod := re.fullmatch(r"/api/v1/namespaces/([^/]+)/pods(?:/([^/]+))?(/log)?", path):
            return self._pod(method, pod[2], bool(pod[3]), body)
        if path == "/apis/authorization.k8s.io/v1/subjectaccessreviews":
            asked = body["spec"]["resourceAttributes"]
            self.reviewed.append(body["spec"])
            denied = (asked["verb"], asked["resource"], asked["subresource"]) in self.denied
            return 201, {**body, "kind": "SubjectAccessReview", "status": {"allowed": not denied}}
        if method == "GET" and path in self.objects:
            return 200, self.objects[path]
        return 404, _status(404, "NotFound", f"{path} not found")

    def _pod(self, method: str, name: str | None, log: bool, body: Any) -> tuple[int, Any]:
        if method == "POST":
            name = body["metadata"]["name"]
            self.logs[name], code = run_container(body["spec"])
            self.pods[name] = {**body, "status": {"phase": "Failed" if code else "Succeeded"}}
            return 201, body
        if name not in self.pods:
            return 404, _status(404, "NotFound", f"pod {name} not found")
        if method == "DELETE":
            self.deleted.append(name)
            return 200, self.pods[name]
        return 200, self.logs[name] if log else self.pods[name]


@cache
def python_of_others() -> str:
    """A Python that the images' user can run too; empty where there is none, or only root could say who runs it."""
    if os.geteuid() != 0:
        return ""
    candidates = [sys.executable, *(which("python3", path=path) for path in ("/usr/local/bin", "/usr/bin"))]
    for found in filter(None, candidates):
        with suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([found, "-c", "import json, tempfile"], check=True, user=IMAGE_USER, cwd="/")
            return found
    return ""


def run_container(spec: dict[str, Any]) -> tuple[str, int]:
    """Runs a pod's container as Kubernetes would: as the image's user if nothing else is said, in the group fsGroup."""
    (container,) = spec["containers"]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    command = [python_of_others() if word == "python" else word for word in container["command"]]
    assert mounted <= set(command)
    user = container.get("securityContext", {})
    group = spec.get("securityContext", {}).get("fsGroup")
    if group is not None:  # the kubelet hands the volume over before the container starts
        for path in mounted:
            os.chown(path, -1, group)
            Path(path).chmod(Path(path).stat().st_mode | 0o2070)
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        user=user.get("runAsUser", IMAGE_USER),
        group=user.get("runAsGroup", IMAGE_USER),
        extra_groups=[] if group is None else [group],
        cwd="/",
        env={"PATH": os.environ["PATH"]},
    )
    return done.stdout + done.stderr, done.returncode


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


@contextmanager
def serve_cluster() -> Iterator[FakeCluster]:
    """Runs the API server while the block runs."""
    held = FakeCluster()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            content = self.rfile.read(length)
            path = urllib.parse.urlparse(self.path).path
            status, said = held.answer(self.command, path, json.loads(content) if content else None)
            answer = said.encode() if isinstance(said, str) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(said, str) else "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_DELETE = _handle  # noqa: N815 - the base class's names

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
