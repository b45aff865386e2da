"""Models on a GPU: TensorFlow, XLA, ONNX Runtime's providers and engines, at batches of 1, 8 and 32."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from shutil import which
from typing import Any

from tests.benchmarks.measuring import Figures, NotRun, Setting, build, clear, ours, run

MODELS = ("mobilenet_v3", "efficientnet_b0", "resnet50", "transformer", "retinanet")
_BATCHES = (1, 8, 32)
_GOAL = 0.5  # of TensorFlow's p50, at float16
_HEAD = ("model", "batch", "way", "p50 ms", "p99 ms", "examples/s", "of TensorFlow", "error", "GPU MiB")
_TIME_LIMIT_S = 900
_RTX_CAPABILITIES = {"7.5", "8.0", "8.6", "8.9", "12.0", "12.1"}


def make_model(name: str, folder: str) -> None:
    """Write a model of the tests' zoo in its full size; the transformer is as large as BERT-base."""
    from tests.models import zoo

    options = dict(zoo.FULL[name])
    if name == "retinanet":
        options["nms"] = False  # no engine takes it
    getattr(zoo, name)(Path(folder), **options)


def make_feeds(model: str, path: str, batch: str) -> None:
    """Write synthetic inputs that the model's signature takes."""
    import numpy as np

    from tpu2gpu.running.examples.synthetic import make_examples
    from tpu2gpu.running.opening import open_runner

    np.savez(path, **make_examples(open_runner(model).inputs, int(batch), seed=0).feeds)


def measure(setting: Setting) -> list[Figures | NotRun]:
    """Measure all models where there is a GPU."""
    if which("nvidia-smi") is None:
        return [NotRun("models on a GPU", "no GPU")]
    rows: list[tuple[str, ...]] = []
    reached: dict[str, bool] = {}
    for name in MODELS[: 1 if setting.reduced else None]:
        try:
            found = _measure_model(name, setting)
        except RuntimeError as error:  # the others can still be measured
            rows.append((name, "", f"not run: {_last_line(error)}", *[""] * 6))
            continue
        rows += found
        best = [row for row in found if "float16" in row[2] and row[6]]
        for batch in sorted({row[1] for row in best}, key=int):
            least = min(float(row[6]) for row in best if row[1] == batch)
            reached[f"{name}, batch {batch}: p50 at float16 at most {_GOAL} of TensorFlow's"] = least <= _GOAL
    return [Figures("models on a GPU", _HEAD, tuple(rows), reached)]


def _measure_model(name: str, setting: Setting) -> list[tuple[str, ...]]:
    folder = setting.folder / name
    model, half = folder / "model", folder / "float16"
    folder.mkdir()
    build("bench_gpu:make_model", name, model)
    run([ours("cast", model, half, "--to", "float16", "--no-measure")])
    serving = {"float32": folder / "serving32", "float16": folder / "serving16"}
    for source, target in ((model, serving["float32"]), (half, serving["float16"])):
        run([ours("convert", source, target, "--backend", "onnx")])
    engines = _engines(half, folder)
    cuda, tensorrt = "CUDAExecutionProvider", "TensorrtExecutionProvider"
    cache = {"cache": str(folder)}
    ways: dict[str, tuple[str, Path, dict[str, Any]]] = {
        "TensorFlow": ("tensorflow", model, {}),
        "TensorFlow, XLA": ("tensorflow", model, {"xla": True}),
        "TensorFlow, float16": ("tensorflow", half, {}),
        "ONNX Runtime, CUDA": ("onnx_runtime", serving["float32"] / "model.onnx", {"provider": cuda}),
        "ONNX Runtime, CUDA, float16": ("onnx_runtime", serving["float16"] / "model.onnx", {"provider": cuda}),
        "ONNX Runtime, TensorRT, float16": (
            "onnx_runtime", serving["float32"] / "model.onnx", {"provider": tensorrt, "half": True, **cache},
        ),
        **{f"{kind}, float16": ("engine", path, {}) for kind, path in engines.items()},
    }  # fmt: skip
    rows = []
    for batch in _BATCHES[: 1 if setting.reduced else None]:
        feeds = folder / f"feeds-{batch}.npz"
        build("bench_gpu:make_feeds", model, feeds, str(batch))
        truth = folder / "truth.npz"
        _time(folder, "tensorflow", model, {"gpu": False}, feeds, truth)
        base = None
        for way, (kind, path, options) in ways.items():
            try:
                found = _time(folder, kind, path, options, feeds, folder / "outputs.npz")
            except RuntimeError as error:
                rows.append((name, str(batch), way, f"not run: {_last_line(error)}", *[""] * 5))
                continue
            base = found["p50_ms"] if way == "TensorFlow" else base
            memory = "" if found["gpu_mib"] is None else f"{found['gpu_mib']:.0f}"
            rows.append(
                (
                    name, str(batch), way, f"{found['p50_ms']:.3f}", f"{found['p99_ms']:.3f}",
                    f"{batch / found['p50_ms'] * 1e3:,.0f}", f"{found['p50_ms'] / base:.2f}" if base else "",
                    _error(truth, folder / "outputs.npz"), memory,
                )
            )  # fmt: skip
    clear(folder)
    return rows


def _engines(source: Path, folder: Path) -> dict[str, Path]:
    """Build the engines that this GPU and what is installed allow."""
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    capability = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip().splitlines()[:1]
    made = {}
    for kind, backend, fits in (
        ("TensorRT-RTX engine", "tensorrt_rtx", bool(set(capability) & _RTX_CAPABILITIES)),
        ("TensorRT engine", "tensorrt", True),
    ):
        if not fits:
            continue
        target = folder / backend
        try:
            run([ours("convert", source, target, "--backend", backend)])
        except RuntimeError as error:
            print(f"{kind}: not built: {_last_line(error)}", flush=True)
            continue
        made[kind] = target
    return made


def _time(folder: Path, way: str, model: Path, options: dict[str, Any], feeds: Path, outputs: Path) -> dict[str, Any]:
    request = folder / "request.json"
    names = {"way": way, "model": str(model), "options": options, "feeds": str(feeds), "outputs": str(outputs)}
    request.write_text(json.dumps(names), encoding="utf-8")
    command = [sys.executable, "-m", "tests.benchmarks.gpu_runner", str(request)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIME_LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no answer within {_TIME_LIMIT_S} s") from error
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _error(truth: Path, outputs: Path) -> str:
    """Return the largest error over the largest output, of the worst output; by position where names differ."""
    import numpy as np

    with np.load(truth) as wanted, np.load(outputs) as found:
        names = sorted(wanted.files), sorted(found.files)
        pairs = zip(names[0], names[0] if set(names[0]) <= set(names[1]) else names[1], strict=False)
        errors = [
            float(np.abs(found[b] - wanted[a]).max() / max(float(np.abs(wanted[a]).max()), 1e-30)) for a, b in pairs
        ]
    return f"{max(errors):.1e}"


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:160].replace("|", "/")
