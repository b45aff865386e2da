"""The part of Kubeflow Pipelines' v2beta1 API that we use, over HTTP, with the checks that the real server makes.

Source: https://github.com/kubeflow/pipelines, backend/api/v2beta1/*.proto (paths and messages) and
backend/src/apiserver/server (what is refused).
"""

from __future__ import annotations

import email.parser
import email.policy
import json
import re
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs
import yaml

from tpu2gpu_pipelines.kubeflow.api.server import Server
from tpu2gpu_pipelines.kubeflow_options import ServerOptions

API = "/apis/v2beta1"
_RUN = {"experiment_id", "display_name", "pipeline_version_reference", "runtime_config", "service_account"}
_RECURRING = {*_RUN, "trigger", "max_concurrency", "no_catchup", "mode"}
Answer = tuple[int, Any]


@attrs.define
class Kubeflow:
    """What the server holds, and what it was asked.

    Attributes:
        url: Where it answers.
        token: The bearer token that it wants; anybody may speak when empty.
        states: What a run's state is, one after the other, each time somebody asks; the last one stays.
        tasks: The state of each step, where a run says so.
        error: What the record of a failed step says; nothing on a whole server of today.
        logs: What each pod has printed.
        in_flight: How often the runs may still be listed before each of these has ended.
        ended: Runs whose workflow went with their recurring run.
        has_dashboard: Whether the dashboard's server stands before the API server, and answers for its health.
        refuse: Answers the next requests instead, one each: `(status, body)`.
    """

    url: str = ""
    token: str = ""
    states: list[str] = attrs.field(factory=lambda: ["SUCCEEDED"])
    tasks: dict[str, str] = attrs.field(factory=dict)
    error: str = ""
    has_dashboard: bool = True
    refuse: list[Answer] = attrs.field(factory=list)
    requests: list[tuple[str, str, Any]] = attrs.field(factory=list)
    headers: list[dict[str, str]] = attrs.field(factory=list)
    experiments: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    pipelines: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    versions: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    runs: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    recurring: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    logs: dict[str, str] = attrs.field(factory=dict)
    in_flight: dict[str, int] = attrs.field(factory=dict)
    ended: list[str] = attrs.field(factory=list)
    run_started: Callable[[str], None] = lambda run: None

    def asked(self, method: str, path: str) -> list[Any]:
        """The bodies of the requests of this kind."""
        return [body for made, where, body in self.requests if made == method and where == API + path]

    def answer(self, method: str, url: str, body: Any, headers: dict[str, str]) -> Answer:
        """Answers a request."""
        parsed = urllib.parse.urlparse(url)
        query = {key: value[0] for key, value in urllib.parse.parse_qs(parsed.query).items()}
        self.requests.append((method, parsed.path, body))
        self.headers.append(headers)
        if self.refuse:
            return self.refuse.pop(0)
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"error": "Unauthenticated", "message": "token is expired"}
        path = parsed.path.removeprefix(API)
        for pattern, verb, handle in self._routes():
            if verb == method and (match := re.fullmatch(pattern, path)):
                return handle(*match.groups(), query=query, body=body)
        return 404, {"error": "Not Found", "message": f"{method} {path}"}

    def _routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        return [
            ("/healthz", "GET", self._health),
            ("/experiments", "GET", self._list("experiments", "experiments")),
            ("/experiments", "POST", self._make_experiment),
            ("/pipelines", "GET", self._list("pipelines", "pipelines")),
            ("/pipelines", "POST", self._make_pipeline),
            ("/pipelines/upload_version", "POST", self._upload_version),
            ("/pipelines/([^/]+)/versions", "GET", self._list_versions),
            ("/runs", "POST", self._start_run),
            ("/runs", "GET", self._list_runs),
            ("/runs/([^/:]+)", "GET", self._get_run),
            ("/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", "GET", self._get_log),
            ("/recurringruns", "GET", self._list("recurring", "recurringRuns")),
            ("/recurringruns", "POST", self._make_recurring),
            ("/recurringruns/([^/:]+):disable", "POST", lambda one, **_: self._set(one, "DISABLED")),
            ("/recurringruns/([^/:]+):enable", "POST", lambda one, **_: self._set(one, "ENABLED")),
            ("/recurringruns/([^/:]+)", "DELETE", self._delete_recurring),
        ]

    def _health(self, **_: Any) -> Answer:
        front_end = {"apiServerReady": True, "buildDate": "", "frontendCommitHash": "", "frontendTagName": "2.17.0"}
        return 200, {"multi_user": False, **(front_end if self.has_dashboard else {"pipeline_store": "database"})}

    def _list(self, table: str, field: str) -> Callable[..., Answer]:
        def answer(*, query: dict[str, str], body: Any) -> Answer:
            return self._page(list(getattr(self, table).values()), field, query)

        return answer

    def _list_versions(self, pipeline: str, *, query: dict[str, str], body: Any) -> Answer:
        mine = [it for it in self.versions.values() if it["pipeline_id"] == pipeline]
        return self._page(mine, "pipeline_versions", query)

    def _page(self, items: list[dict[str, Any]], field: str, query: dict[str, str]) -> Answer:
        """Two items a page, whatever was asked for, so that nobody gets by with the first one."""
        for predicate in json.loads(query.get("filter") or "{}").get("predicates", []):
            assert predicate["operation"] in ("EQUALS", 1)  # a name or a number, as JSON has an enumeration
            items = [it for it in items if it[predicate["key"]] == predicate["stringValue"]]
        if experiment := query.get("experiment_id"):
            items = [it for it in items if it["experiment_id"] == experiment]
        start = int(query.get("page_token") or 0)
        token = {"next_page_token": str(start + 2)} if start + 2 < len(items) else {}
        return 200, {field: items[start : start + 2], "total_size": len(items), **token}

    def _make_experiment(self, *, query: dict[str, str], body: Any) -> Answer:
        return 200, self._keep(self.experiments, "experiment_id", {"display_name": body["display_name"]})

    def _make_pipeline(self, *, query: dict[str, str], body: Any) -> Answer:
        if any(it["display_name"] == body["display_name"] for it in self.pipelines.values()):
            return 409, {"error_message": f"pipeline {body['display_name']} already exists"}
        return 200, self._keep(self.pipelines, "pipeline_id", {"display_name": body["display_name"]})

    def _upload_version(self, *, query: dict[str, str], body: Any) -> Answer:
        assert query["pipelineid"] in self.pipelines
        _check_package(body)
        version = {"pipeline_id": query["pipelineid"], "display_name": query["name"], "package": body}
        return 200, self._keep(self.versions, "pipeline_version_id", version, "package")

    def _start_run(self, *, query: dict[str, str], body: Any) -> Answer:
        if wrong := self._check(body, _RUN):
            return 400, {"error_message": wrong}
        run = self._keep(self.runs, "run_id", {**body, "state": "PENDING"})
        self.run_started(run["run_id"])
        return 200, run

    def _get_run(self, run: str, *, query: dict[str, str], body: Any) -> Answer:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        recorded = {"code": 13, "message": self.error} if self.error else None  # a whole 2.17 records none
        tasks = [
            {
                "task_id": f"task-{name}",
                "display_name": name,
                "state": it,
                "error": recorded if it == "FAILED" else None,
                "pod_name": f"pod-{name}",
                "execution_id": str(number),
            }
            for number, (name, it) in enumerate(
                {**{f"{name}-driver": "SUCCEEDED" for name in self.tasks}, **self.tasks}.items(), 1
            )
        ]
        return 200, {**self.runs[run], "state": state, "run_details": {"task_details": tasks}}

    def _get_log(self, run: str, pod: str, *, query: dict[str, str], body: Any) -> Answer:
        if run not in self.runs or pod not in self.logs:
            return 500, {"error_message": f'pods "{pod}" not found'}
        return 200, self.logs[pod]

    def _make_recurring(self, *, query: dict[str, str], body: Any) -> Answer:
        if wrong := self._check(body, _RECURRING):
            return 400, {"error_message": wrong}
        if len(body["trigger"]) != 1 or not 1 <= int(body["max_concurrency"]) <= 10:
            return 400, {"error_message": "one trigger, and 1 to 10 runs at a time"}
        status = f"{body['mode']}D"
        stored = {**body, "status": status, "max_concurrency": str(body["max_concurrency"])}  # int64 is text in JSON
        if period := body["trigger"].get("periodic_schedule"):
            stored["trigger"] = {"periodic_schedule": {**period, "interval_second": str(period["interval_second"])}}
        return 200, self._keep(self.recurring, "recurring_run_id", stored)

    def _set(self, one: str, status: str) -> Answer:
        self.recurring[one]["status"] = status
        return 200, {}

    def _delete_recurring(self, one: str, *, query: dict[str, str], body: Any) -> Answer:
        """As Kubernetes does it: the workflows go with their owner, and the record of their runs stays as it was."""
        del self.recurring[one]
        for run in self.runs.values():
            if run.get("recurring_run_id") == one and run["state"] == "RUNNING":
                self.ended.append(run["run_id"])
        return 200, {}

    def run_of(self, recurring: str, *, asked: int = 10**9) -> str:
        """A run of a recurring run is in flight until somebody has listed the runs so often."""
        run = self._keep(
            self.runs,
            "run_id",
            {
                "display_name": "run",
                "recurring_run_id": recurring,
                "experiment_id": self.recurring[recurring]["experiment_id"],
                "state": "RUNNING",
            },
        )
        self.in_flight[run["run_id"]] = asked
        return str(run["run_id"])

    def _list_runs(self, *, query: dict[str, str], body: Any) -> Answer:
        for run in list(self.in_flight):
            self.in_flight[run] -= 1
            if self.in_flight[run] <= 0:
                self.runs[run]["state"] = "SUCCEEDED"
        return self._list("runs", "runs")(query=query, body=body)

    def _check(self, body: dict[str, Any], allowed: set[str]) -> str:
        """What the server would say against a run or a recurring run; empty when nothing."""
        if unknown := body.keys() - allowed:
            return f"unknown fields {sorted(unknown)}"
        reference = body["pipeline_version_reference"]
        version = self.versions.get(reference["pipeline_version_id"])
        if version is None or version["pipeline_id"] != reference["pipeline_id"]:
            return f"no such version {reference}"
        if body["experiment_id"] not in {it["experiment_id"] for it in self.experiments.values()}:
            return f"no such experiment {body['experiment_id']}"
        spec = next(iter(yaml.safe_load_all(version["package"])))
        declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        unknown = body["runtime_config"].get("parameters", {}).keys() - declared.keys()
        return f"unknown parameters {sorted(unknown)}" if unknown else ""

    def _keep(self, table: dict[str, dict[str, Any]], key: str, item: dict[str, Any], *hidden: str) -> dict[str, Any]:
        name = f"{key.removesuffix('_id')}-{len(self.requests)}"
        table[name] = {**item, key: name}
        return {field: value for field, value in table[name].items() if field not in hidden}


def _check_package(text: str) -> None:
    """What the server's template check wants of an upload."""
    spec, *platform = yaml.safe_load_all(text)
    assert spec["schemaVersion"] == "2.1.0"
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,127}", spec["pipelineInfo"]["name"])
    assert len(platform) <= 1


@contextmanager
def serve(*, tls: ssl.SSLContext | None = None) -> Iterator[Kubeflow]:
    """Runs the server while the block runs."""
    held = Kubeflow()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = _parse(self.headers.get("Content-Type", ""), self.rfile.read(length))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, said = held.answer(self.command, self.path, body, headers)
            is_text = isinstance(said, str)
            content = said.encode() if is_text else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if is_text else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _handle  # noqa: N815 - the base class's names

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    held.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _parse(kind: str, content: bytes) -> Any:
    """A JSON body as data, the one file of a form as text."""
    if kind.startswith("multipart/form-data"):
        head = f"Content-Type: {kind}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + content)
        (part,) = list(message.iter_parts())  # type: ignore[attr-defined]
        return part.get_payload(decode=True).decode()
    return json.loads(content) if content else None


def server_of(kubeflow: Kubeflow, **options: Any) -> Server:
    """The server as our commands see it."""
    return Server(ServerOptions(host=kubeflow.url, **options))
