"""Kubeflow Pipelines as its own client speaks to it, with limits, retries and errors that say what to do."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

from tpu2gpu.errors import RemoteRunError, SourceError, Tpu2GpuError
from tpu2gpu_pipelines.kubeflow_options import ServerOptions

_REQUEST_S = (10, 60)  # to connect, and to read; the generated client drops anything else in silence
_TRIES = 3
_BUSY = (502, 503, 504)
_PAGE = 100
_CREATE_PIPELINE = "pipeline_service_create_pipeline"  # as newer clients call it
_HEALTH = "healthz_service_get_healthz"  # as newer clients call it
_LONGEST = 300
_HEALTH_PATHS = ("/apis/v2beta1/healthz", "/apis/v1beta1/healthz")
_FRONT_END = {"frontendTagName", "frontendCommitHash", "apiServerReady"}
_DASHBOARD = "KF_PIPELINES_UI_ENDPOINT"  # which KFP's own client heeds
_LOG = "/apis/v1alpha1/runs/{run_id}/nodes/{node_id}/log"


class Server:
    """One installation of Kubeflow Pipelines.

    Args:
        options: Where it answers, and as whom to speak to it.

    Raises:
        SourceError: A file with a token, cookies or certificates cannot be read.
        RemoteRunError: It does not answer, or does not know us.
    """

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        with self.request_errors():
            self.client = _make_client(options)

    @contextmanager
    def request_errors(self) -> Iterator[None]:
        """Turn what can happen to a request into errors of ours. No message repeats what was sent."""
        from kfp_server_api.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        where = self.options.host or "the cluster's Kubeflow Pipelines"
        try:
            with redirect_stdout(StringIO()):  # the client prints links of its own
                yield
        except Tpu2GpuError:
            raise
        except ApiException as error:
            raise RemoteRunError(f"{where}: {_say(error)}", hint=_HINTS.get(error.status, "")) from error
        except (HTTPError, OSError) as error:
            found = " ".join(str(error).split())[:_LONGEST]
            raise RemoteRunError(
                f"{where}: does not answer ({type(error).__name__}: {found})",
                hint="check the host, the network and the certificates",
            ) from error

    def link(self, path: str) -> str:
        """Return where the dashboard shows something, for example `runs/details/ID`; empty where none is known."""
        return f"{self.dashboard}/#/{path}" if self.dashboard else ""

    @cached_property
    def dashboard(self) -> str:
        """The dashboard's address: as the options or KFP's own variable say, or the host if a dashboard answers there.

        At the port of the API server there is none. It tells no other address, but answers for its health in fewer
        words than the dashboard's server, which adds what it is itself.

        Source: https://github.com/kubeflow/pipelines, frontend/server/handlers/healthz.ts.
        """
        if said := self.options.dashboard or os.environ.get(_DASHBOARD, ""):
            return (said if "://" in said else f"http://{said}").rstrip("/")
        host = str(self.client._run_api.api_client.configuration.host).rstrip("/")
        for path in _HEALTH_PATHS:
            with suppress(RemoteRunError, ValueError):
                if _FRONT_END & json.loads(self._get(path)).keys():
                    return host
        return ""

    def pages(self, ask: Callable[..., Any], field: str, **arguments: Any) -> Iterator[Any]:
        """Walk over all items of a list that the server gives page by page.

        Args:
            ask: The client's method.
            field: Where a page holds its items.
            arguments: The method's arguments.
        """
        token = ""
        while True:
            with self.request_errors():
                page = ask(page_token=token, page_size=_PAGE, **arguments)
            yield from getattr(page, field) or []
            if not (token := page.next_page_token or ""):
                return

    def create_pipeline(self, name: str) -> str:
        """Make a pipeline without a version, and return its id; the client's upload would name a version after it.

        Raises:
            RemoteRunError: The server refuses.
        """
        import kfp_server_api

        pipeline = kfp_server_api.V2beta1Pipeline(display_name=name, namespace=self.options.namespace or None)
        if "name" in kfp_server_api.V2beta1Pipeline.openapi_types:  # the identifier of newer servers
            pipeline.name = name
        api = self.client._pipelines_api
        create = getattr(api, _CREATE_PIPELINE, None) or api.create_pipeline
        with self.request_errors():
            return str(create(pipeline).pipeline_id)

    def read_log(self, run_id: str, node: str) -> str:
        """Return what a step's pod has printed.

        Args:
            run_id: The run.
            node: The pod, as the run's tasks name it.

        Raises:
            RemoteRunError: There is no such log.
        """
        return self._get(_LOG, run_id=run_id, node_id=node)

    def _get(self, path: str, **parts: str) -> str:
        """Ask for what the client has no method for, and return it as text."""
        api = self.client._run_api.api_client
        with self.request_errors():
            answer = api.call_api(
                path,
                "GET",
                path_params=parts,
                auth_settings=["Bearer"],
                _return_http_data_only=True,
                _preload_content=False,
                _request_timeout=_REQUEST_S,
            )
            return bytes(answer.data).decode("utf-8", errors="replace")


def named(name: str) -> str:
    """Return the filter of what is called so."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


_HINTS = {
    401: "the token or the cookies have expired or are not valid: get new ones",
    403: "ask for the right to use the namespace, or choose another by --namespace",
    404: "check the host and its path: no Kubeflow Pipelines v2 is there",
}


def _say(error: Any) -> str:
    """Tell what an error response says of itself."""
    try:
        body = json.loads(error.body)
        found = body.get("error_message") or body.get("message") or body.get("error") or ""
    except (TypeError, ValueError, AttributeError):
        found = ""
    told = " ".join(str(found).split())[:_LONGEST]
    return f"{error.status} {error.reason}" + (f": {told}" if told else "")


def _make_client(options: ServerOptions) -> Any:
    import kfp
    import urllib3
    from kfp.client import ServiceAccountTokenVolumeCredentials

    class Client(kfp.Client):
        """KFP's client with limits; it would wait for ever, and try 25 seconds for the first response."""

        def _load_config(self, *arguments: Any) -> Any:
            config = super()._load_config(*arguments)
            config.retries = urllib3.Retry(
                total=_TRIES, backoff_factor=0.5, status_forcelist=_BUSY, allowed_methods=["GET"], raise_on_status=False
            )
            return config

        def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
            api = self._healthz_api
            return (getattr(api, _HEALTH, None) or api.get_healthz)()

    credentials = None
    if options.token_file:
        _read(options.token_file)
        credentials = ServiceAccountTokenVolumeCredentials(path=options.token_file)  # read anew for each request
    elif options.service_account_token:
        credentials = ServiceAccountTokenVolumeCredentials()
    if options.ca_file:
        _read(options.ca_file)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    client = Client(
        host=options.host or None,
        namespace=options.namespace or "kubeflow",
        cookies=_read(options.cookies_file) if options.cookies_file else None,
        credentials=credentials,
        ssl_ca_cert=options.ca_file or None,
        ui_host=options.dashboard or None,
    )
    _limit(client)
    return client


def _limit(client: Any) -> None:
    """Give every request that has no limit one; the generated client offers that request by request only."""
    rest = client._run_api.api_client.rest_client
    ask = rest.request

    def ask_in_time(*arguments: Any, **named_arguments: Any) -> Any:
        if named_arguments.get("_request_timeout") is None:
            named_arguments["_request_timeout"] = _REQUEST_S
        return ask(*arguments, **named_arguments)

    rest.request = ask_in_time


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read ({getattr(error, 'strerror', 'not text')})") from error
