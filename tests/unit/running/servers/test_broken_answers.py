"""A server that answers what is none of its protocol ends in an error of ours that names its address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np
import pytest

from tpu2gpu.errors import SourceError
from tpu2gpu.running.servers.addresses import open_address

INFO = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "2"}]}}
TENSOR = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
ROW = {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
DEEP = b"[" * 100_000


def signature(**changed: Any) -> dict[str, Any]:
    serving = {"serving_default": {"inputs": {"x": {**INFO, **changed}}, "outputs": {"y": INFO}}}
    return {"model_spec": {"version": "1"}, "metadata": {"signature_def": {"signature_def": serving}}}


def triton(config: Any = None, statistics: Any = None, **changed: Any) -> dict[str, Any]:
    metadata = {"inputs": [TENSOR], "outputs": [{**TENSOR, "name": "y", **changed}]}
    return {"/config": config or {}, "/stats": statistics or {}, "/models/": metadata, "": {}}


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """A server whose `answers`, by the end of a path, are what a test sets."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = next(body for part, body in served.answers.items() if part in self.path)  # type: ignore[attr-defined]
            body = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer  # noqa: N815 - names of the standard library

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        Thread(target=served.serve_forever, args=[0.01], daemon=True).start()
        yield served
        served.shutdown()


def ask(server: ThreadingHTTPServer, scheme: str, answers: dict[str, Any]) -> None:
    server.answers = answers  # type: ignore[attr-defined]
    runner = open_address(f"{scheme}+http://127.0.0.1:{server.server_address[1]}/m", timeout_s=10)
    try:
        runner.run({"x": np.ones((1, 2), np.float32)})
        runner.describe()
        runner.latency_breakdown_ms()
    finally:
        runner.close()


BROKEN = {
    "nesting": ("tfserving", {"": DEEP}),
    "a text for the model": ("tfserving", {"": {**signature(), "model_spec": "x"}}),
    "a list of signatures": (
        "tfserving",
        {"": {**signature(), "metadata": {"signature_def": {"signature_def": ["serving_default"]}}}},
    ),
    "a type that is none": ("tfserving", {"": signature(dtype="DT_NOTHING")}),
    "a type that nobody knows": ("tfserving", {"": signature(dtype=9999)}),
    "no outputs": ("tfserving", {":predict": {}, "": signature()}),
    "a list of outputs": ("tfserving", {":predict": [1], "": signature()}),
    "nested outputs": ("tfserving", {":predict": DEEP, "": signature()}),
    "metadata that are none": ("triton", {"": []}),
    "no JSON": ("triton", {"": b"<html>"}),
    "a tensor without a name": ("triton", {**triton(), "/models/": {"inputs": [{}], "outputs": []}}),
    "a size that is none": ("triton", triton(shape=["x"])),
    "no shape": ("triton", triton(shape=None)),
    "a damaged signature": (
        "triton",
        triton(config={"parameters": {"tpu2gpu_signature": {"string_value": "{"}}}),
    ),
    "a configuration that is none": ("triton", triton(config="x")),
    "no response": ("triton", {"/infer": {}, **triton()}),
    "too few values": ("triton", {"/infer": {"outputs": [{**ROW["outputs"][0], "data": [1]}]}, **triton()}),
    "groups that are none": ("triton", {"/infer": ROW, **triton(config={"instance_group": [1]})}),
}


@pytest.mark.parametrize(("scheme", "answers"), BROKEN.values(), ids=BROKEN)
def test_it_names_the_address(server: ThreadingHTTPServer, scheme: str, answers: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match=rf"^{scheme}\+http://127\.0\.0\.1:\d+/m: "):
        ask(server, scheme, answers)


@pytest.mark.parametrize("statistics", [[1], {"model_stats": "x"}, {"model_stats": [{}]}], ids=str)
def test_times_that_are_not_told_as_they_should_be_are_left_out(server: ThreadingHTTPServer, statistics: Any) -> None:
    ask(server, "triton", {"/infer": ROW, **triton(statistics=statistics)})


def test_sound_answers_are_taken(server: ThreadingHTTPServer) -> None:
    ask(server, "triton", {"/infer": ROW, **triton()})
    ask(server, "tfserving", {":predict": {"outputs": [[1, 2]]}, "": signature()})
