"""The model.py of Triton's python back end: it runs the model.onnx or the SavedModel that lies beside it.

It is copied into model repositories as it stands, and needs numpy, and onnxruntime or tensorflow. Requests that Triton
has batched are computed in one go; where that fails, each alone, so that a bad one does not fail the others.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found, unused-ignore]


class TritonPythonModel:
    """The class that Triton makes and calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the model that lies beside this file."""
        config = json.loads(args["model_config"])
        self.batched = config["max_batch_size"] > 0
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        version = Path(args["model_repository"]) / args["model_version"]
        if (version / "model.onnx").is_file():
            self.model: Any = _Onnx(version / "model.onnx", on_gpu=args["model_instance_kind"] == "GPU")
        else:
            self.model = _SavedModel(version / "model.savedmodel")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests, in their order."""
        feeds = [self._feed(request) for request in requests]
        forms = {tuple(feed[name].shape[1:] for name in self.inputs) for feed in feeds}
        if self.batched and len(forms) == 1 and len(feeds) > 1:
            with suppress(Exception):  # what is wrong with which request, running each alone tells
                return self._together(feeds)
        return [self._alone(feed) for feed in feeds]

    def finalize(self) -> None:
        """Let go of the model."""
        self.model = None

    def _feed(self, request: Any) -> dict[str, Any]:
        feed = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
        if any(array.strides[-1:] not in ((), (array.itemsize,)) for array in feed.values()):
            # A server built for NumPy 1 hands the arrays of NumPy 2 over with strides of 0, and says nothing.
            raise RuntimeError(
                f"this server's python back end mistakes the arrays of NumPy {np.__version__}: install numpy<2 for its "
                "Python, or take a newer server"
            )
        return feed

    def _together(self, feeds: list[dict[str, Any]]) -> list[Any]:
        joined = {name: np.concatenate([feed[name] for feed in feeds]) for name in self.inputs}
        ends = np.cumsum([len(feed[self.inputs[0]]) for feed in feeds])
        parts = [np.split(output, ends[:-1]) for output in self.model.run(self.outputs, joined)]
        return [self._response(outputs) for outputs in zip(*parts, strict=True)]

    def _alone(self, feed: dict[str, Any]) -> Any:
        try:
            return self._response(self.model.run(self.outputs, feed))
        except Exception as error:  # libraries raise errors of every kind
            said = pb_utils.TritonError(f"{type(error).__name__}: {error}")
            return pb_utils.InferenceResponse(output_tensors=[], error=said)

    def _response(self, outputs: Any) -> Any:
        named = zip(self.outputs, outputs, strict=True)
        tensors = [pb_utils.Tensor(name, value) for name, value in named]
        return pb_utils.InferenceResponse(output_tensors=tensors)


class _Onnx:
    """An ONNX file in ONNX Runtime."""

    def __init__(self, path: Path, *, on_gpu: bool) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # which the import reads
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if "vnni" not in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace"):
            options.add_session_config_entry("session.disable_quant_qdq", "1")  # int8 kernels overflow without it
        wanted = ["CUDAExecutionProvider"] * on_gpu + ["CPUExecutionProvider"]
        providers = [name for name in wanted if name in ort.get_available_providers()]
        self.session = ort.InferenceSession(str(path), options, providers=providers)
        self.texts = {output.name for output in self.session.get_outputs() if output.type == "tensor(string)"}

    def run(self, outputs: list[str], feed: dict[str, Any]) -> list[Any]:
        given = {name: _decoded(array) if array.dtype == object else array for name, array in feed.items()}
        found = zip(outputs, self.session.run(outputs, given), strict=True)
        return [_encoded(value) if name in self.texts else value for name, value in found]


class _SavedModel:
    """The only signature of a SavedModel in TensorFlow, on the CPU."""

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")
        self.loaded = tf.saved_model.load(str(path))
        (self.function,) = self.loaded.signatures.values()
        self.constant = tf.constant

    def run(self, outputs: list[str], feed: dict[str, Any]) -> list[Any]:
        found = self.function(**{name: self.constant(array) for name, array in feed.items()})
        return [found[name].numpy() for name in outputs]


def _decoded(array: Any) -> Any:
    texts = [value.decode() if isinstance(value, bytes) else str(value) for value in array.ravel()]
    return np.asarray(texts, object).reshape(array.shape)


def _encoded(array: Any) -> Any:
    return np.asarray([str(value).encode() for value in array.ravel()], object).reshape(array.shape)
