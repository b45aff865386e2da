"""Times one way of running a model on the GPU, alone in its process: `python -m tests.benchmarks.gpu_runner JSON`.

Prints one JSON document: latencies in milliseconds, GPU memory in MiB, and where the outputs lie.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Feeds = Mapping[str, "np.ndarray[Any, Any]"]
Run = Callable[[], Mapping[str, "np.ndarray[Any, Any]"]]

_WARM_UP_S, _TIMED_S, _FEWEST = 3.0, 5.0, 50


def tensorflow(model: str, feeds: Feeds, *, xla: bool = False, gpu: bool = True) -> Run:
    """Run a SavedModel's signature; outputs are fetched, as a server must."""
    import tensorflow as tf

    if not gpu:
        tf.config.set_visible_devices([], "GPU")
    elif not tf.config.list_physical_devices("GPU"):
        raise RuntimeError("this TensorFlow sees no GPU")
    for device in tf.config.list_physical_devices("GPU") if gpu else ():
        tf.config.experimental.set_memory_growth(device, True)
    loaded = tf.saved_model.load(model)
    signature = loaded.signatures["serving_default"]

    @tf.function(jit_compile=xla, autograph=False)
    def call(inputs: Any) -> Any:
        return signature(**inputs)

    tensors = {name: tf.constant(array) for name, array in feeds.items()}

    def run() -> Mapping[str, np.ndarray[Any, Any]]:
        return {name: value.numpy() for name, value in call(tensors).items()}

    run.keeps = loaded  # type: ignore[attr-defined]  # its variables go with it
    return run


def onnx_runtime(model: str, feeds: Feeds, *, provider: str, half: bool = False, cache: str = "") -> Run:
    """Run an ONNX file with a provider: inputs on the GPU already, outputs copied back.

    Source: https://onnxruntime.ai/docs/performance/tune-performance/iobinding.html
    """
    import onnxruntime as ort

    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # CUDA's and cuDNN's libraries of the wheels
    if provider not in ort.get_available_providers():
        raise RuntimeError(f"this ONNX Runtime has no {provider}")
    options: dict[str, Any] = {"device_id": 0}
    if provider == "TensorrtExecutionProvider":
        shapes = {name: array.shape for name, array in feeds.items()}
        profile = ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
        options |= {
            "trt_fp16_enable": half,
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": cache,
            **{f"trt_profile_{which}_shapes": profile for which in ("min", "opt", "max")},
        }
    chosen = [(provider, options), *([("CUDAExecutionProvider", {"device_id": 0})] if "Tensorrt" in provider else [])]
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    session = ort.InferenceSession(model, settings, providers=[*chosen, "CPUExecutionProvider"])
    if provider not in session.get_providers():
        raise RuntimeError(f"{provider} did not load")
    names = [output.name for output in session.get_outputs()]
    binding = session.io_binding()
    kept = {name: ort.OrtValue.ortvalue_from_numpy(array, "cuda", 0) for name, array in feeds.items()}
    for name, value in kept.items():
        binding.bind_ortvalue_input(name, value)

    def run() -> Mapping[str, np.ndarray[Any, Any]]:
        for name in names:
            binding.bind_output(name, "cuda", 0)
        binding.synchronize_inputs()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return dict(zip(names, binding.copy_outputs_to_cpu(), strict=True))

    run.keeps = kept  # type: ignore[attr-defined]
    return run


def engine(model: str, feeds: Feeds) -> Run:
    """Run our serving folder with its engine."""
    from tpu2gpu.running.opening import open_runner

    runner = open_runner(model)
    return lambda: runner.run(feeds)


WAYS: dict[str, Callable[..., Run]] = {
    "tensorflow": tensorflow,
    "onnx_runtime": onnx_runtime,
    "engine": engine,
}


def main(request: Mapping[str, Any]) -> dict[str, Any]:
    """Load, warm up, time, and save the outputs."""
    with np.load(request["feeds"]) as file:
        feeds = {name: file[name] for name in file.files}
    run = WAYS[request["way"]](request["model"], feeds, **request["options"])
    begun = time.perf_counter()
    outputs = run()
    first_ms = (time.perf_counter() - begun) * 1e3
    while time.perf_counter() - begun < _WARM_UP_S:
        run()
    latencies_ms: list[float] = []
    begun = time.perf_counter()
    while len(latencies_ms) < _FEWEST or time.perf_counter() - begun < _TIMED_S:
        before = time.perf_counter()
        outputs = run()
        latencies_ms.append((time.perf_counter() - before) * 1e3)
    np.savez(request["outputs"], **{name: np.asarray(value, np.float32) for name, value in outputs.items()})
    p50, p99 = (float(np.percentile(latencies_ms, it)) for it in (50, 99))
    return {"p50_ms": p50, "p99_ms": p99, "first_ms": first_ms, "gpu_mib": gpu_mib(), "requests": len(latencies_ms)}


def gpu_mib() -> float | None:
    """Return the GPU memory of this process by nvidia-smi, None where it does not tell (in a container, for one)."""
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    used = dict(line.split(", ", 1) for line in lines if ", " in line)
    value = used.get(str(os.getpid()), "")
    return float(value) if value.strip().isdigit() else None


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    print(json.dumps(main(json.loads(text))))
