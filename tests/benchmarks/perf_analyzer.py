"""The evaluator's p50 of a model behind Triton, against that of Triton's own `perf_analyzer`, where both tools are."""

from __future__ import annotations

import csv
import json
import socket
import subprocess
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from shutil import which

from tests.benchmarks.measuring import Figures, NotRun, Setting, build, clear, ours, run, spread

_START_S, _ROUNDS, _NAME = 120, 3, "model"


def measure_both(setting: Setting) -> list[Figures | NotRun]:
    """Start a Triton server with a small model, and measure in turns."""
    server = which("tritonserver")
    if server is None:
        return [NotRun("the evaluator against Triton's perf_analyzer", "no tritonserver on the path")]
    folder = setting.folder
    build("bench_convert:make_model", "mobilenet_v3", folder / "model", "small")
    run([ours("convert", folder / "model", folder / "serving", "--backend", "onnx", "--name", _NAME, "--force")])
    grpc, http, metrics = _free_ports(3)
    ports = [f"--grpc-port={grpc}", f"--http-port={http}", f"--metrics-port={metrics}"]
    repository = f"--model-repository={folder / 'serving' / 'model_repository'}"
    with (folder / "triton.log").open("wb") as log:
        process = subprocess.Popen([server, repository, *ports], stdout=log, stderr=log)
        try:
            if not _is_ready(process, http):
                return [NotRun("the evaluator against Triton's perf_analyzer", "Triton does not take the model here")]
            address = f"triton+grpc://127.0.0.1:{grpc}/{_NAME}"
            found = [(_by_evaluator(folder, address), _by_perf_analyzer(folder, grpc)) for _ in range(_ROUNDS)]
        finally:
            process.terminate()
            process.wait(60)
    rows = []
    for way, values in zip(("tpu2gpu evaluate", "perf_analyzer"), zip(*found, strict=True), strict=True):
        middle, low, high = spread(values)
        rows.append((way, f"{middle:.3f} ({low:.3f}–{high:.3f})"))
    return [Figures("MobileNetV3 behind Triton, one request at a time", ("way", "p50 ms"), tuple(rows))]


def _by_evaluator(folder: Path, address: str) -> float:
    out = folder / "evaluation"
    clear(out)
    given = ("--synthetic", "32", "--requests", "300", "--max-requests", "300", "--out", out)
    with suppress(RuntimeError):  # a model that is not blessed is measured all the same
        run([ours("evaluate", folder / "model", address, *given)])
    report = json.loads((out / "report.json").read_text())
    return float(report["candidates"][0]["figures"]["latency_ms"]["p50"]["value"])


def _by_perf_analyzer(folder: Path, port: int) -> float:
    """Return p50 in milliseconds.

    Source: https://github.com/triton-inference-server/perf_analyzer/blob/main/docs/cli.md
    """
    table = folder / "perf_analyzer.csv"
    target = ["-m", _NAME, "-u", f"127.0.0.1:{port}", "-i", "grpc", "-b", "1", "--concurrency-range", "1"]
    run([["perf_analyzer", *target, "--percentile", "50", "-f", str(table)]])
    with table.open(newline="") as file:
        row = next(csv.DictReader(file))
    return float(row["p50 latency"]) / 1e3


def _is_ready(process: subprocess.Popen[bytes], port: int) -> bool:
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() - begun < _START_S:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
        time.sleep(0.5)
    return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [it.getsockname()[1] for it in sockets]
    for it in sockets:
        it.close()
    return ports
