"""The runner of an ONNX file, in ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tpu2gpu.errors import GraphError, SignatureError, SourceError, UnsupportedError, first_line, foreign_errors
from tpu2gpu.running.arrays import Array, is_text, numpy_dtype
from tpu2gpu.running.local.external_data import check_external_data
from tpu2gpu.running.local.onnx_check import check_onnx
from tpu2gpu.running.runner import Feeds, TensorSpec, check_feeds
from tpu2gpu.storage.verifying import check_own

_DTYPES = {"float": "float32", "double": "float64"}  # where ONNX's names are not numpy's
_FIRST_BYTE = b"\x08"  # the key of ir_version, which every writer of ONNX files puts first
_FATAL = 4


class OnnxRunner:
    """An ONNX file in ONNX Runtime, on a GPU where its CUDA provider is there, on the CPU elsewhere.

    Args:
        path: The ONNX file.
        threads: Threads inside one operation; ONNX Runtime's own choice when None.
        providers: ONNX Runtime's execution providers in order of preference, in place of the choice above.
        fuse: Let ONNX Runtime fuse operations; without it, no value depends on which outputs are asked for.
        unverified: Load it also where it is not the one that the manifest beside it lists.
        check: Let ONNX's own checker look at it first, which misses the types of outputs that ONNX Runtime infers.

    Raises:
        ManifestError: It is not the one that the manifest beside it lists.
        SourceError: ONNX Runtime does not take the file, or its weights are not in its folder.
    """

    kind = "onnx"
    form = "an ONNX file"
    concurrency = 1

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        fuse: bool = True,
        unverified: bool = False,
        check: bool = True,
    ) -> None:
        import onnxruntime as ort

        self._path = Path(path)
        self._threads = threads
        files = [self._path, *check_external_data(path)]
        if not unverified:
            check_own(self._path.parent, *(file.relative_to(self._path.parent).as_posix() for file in files))
        if check:
            check_onnx(self._path)
        options = ort.SessionOptions()
        options.add_session_config_entry("session.load_model_format", "ONNX")  # not one that nobody looked through
        options.log_severity_level = _FATAL  # what goes wrong is raised, and told once
        options.inter_op_num_threads = 1
        if not fuse:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if threads is not None:
            options.intra_op_num_threads = threads
        # Threads that spin after a request would slow down whatever else is measured on the machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not adds_up_int8():
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        wanted = providers or ["CUDAExecutionProvider", "CPUExecutionProvider"]
        there = ort.get_available_providers()
        with foreign_errors(SourceError, f"{path}: ONNX Runtime does not take it"):
            self._session = ort.InferenceSession(str(path), options, providers=[p for p in wanted if p in there])
        with foreign_errors(SourceError, f"{path}: its inputs and outputs cannot be told"):  # names may be no text
            self.inputs = _specs(self._session.get_inputs())
            self.outputs = _specs(self._session.get_outputs())

    @staticmethod
    def detect(path: str) -> bool:
        """Tell whether a path is an ONNX file, by its first byte."""
        if not Path(path).is_file():
            return False
        with Path(path).open("rb") as file:
            return file.read(1) == _FIRST_BYTE

    @staticmethod
    def slow_imports(path: str) -> tuple[str, ...]:
        """Return nothing."""
        return ()

    @classmethod
    def open(
        cls,
        path: str,
        *,
        signature: str,
        threads: int | None,
        timeout_s: float,
        trust: Sequence[str] = (),
        unverified: bool = False,
    ) -> OnnxRunner:
        """Open an ONNX file."""
        return cls(path, threads=threads, unverified=unverified)

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run one request; strings come as objects of type bytes.

        Raises:
            SignatureError: The feeds do not fit the inputs.
            GraphError: ONNX Runtime does not run the model on them.
        """
        arrays = check_feeds(self.inputs, feeds, self._path)
        texts = {name: _decoded(array) for name, array in arrays.items() if is_text(array)}
        names = [spec.name for spec in self.outputs]
        try:
            outputs = self._session.run(names, {**arrays, **texts})
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            raise GraphError(f"{self._path}: ONNX Runtime does not run it on this ({first_line(error)})") from error
        return {name: _encoded(np.asarray(array)) for name, array in zip(names, outputs, strict=True)}

    def describe(self) -> dict[str, Any]:
        """Tell what runs, and on what."""
        import onnxruntime as ort

        provider = self._session.get_providers()[0]
        return {
            "kind": self.kind,
            "provider": provider,
            "device": "CPU:0" if provider.startswith("CPU") else "GPU:0",
            "threads": self._threads,
            "versions": {"onnxruntime": ort.__version__},
        }

    def close(self) -> None:
        """Let go of the session and its memory."""
        self._session = None


def _specs(values: Sequence[Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            value.name, _dtype(value.type), tuple(size if isinstance(size, int) else None for size in value.shape)
        )
        for value in sorted(values, key=lambda value: str(value.name))
    )


def _dtype(onnx_type: str) -> str:
    """Return numpy's name of ONNX Runtime's type: `tensor(float)` -> `float32`.

    Raises:
        UnsupportedError: It is none of tensors, or one that numpy lacks.
    """
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    name = _DTYPES.get(name, name)
    with foreign_errors(UnsupportedError, f"an input or output is of ONNX's type {onnx_type}"):
        numpy_dtype(name)
    return name


def _decoded(array: Array) -> Array:
    """Return strings as text, which ONNX Runtime's are."""
    try:
        texts = [value.decode() if isinstance(value, bytes) else str(value) for value in array.ravel()]
    except UnicodeDecodeError as error:
        raise SignatureError(f"ONNX Runtime takes strings in UTF-8 only ({error})") from error
    return np.asarray(texts, object).reshape(array.shape)


def _encoded(array: Array) -> Array:
    """Return strings as bytes, which TensorFlow's are."""
    if not is_text(array):
        return array
    texts = [str(value).encode() for value in array.ravel()]
    return np.asarray(texts, object).reshape(array.shape)


def adds_up_int8() -> bool:
    """Tell whether this processor adds up products of int8 in 32 bits.

    Older ones do so in 16, and ONNX Runtime's kernels overflow there: outputs are wrong, without a word. Without those
    kernels the model computes in float32 on the values that int8 holds, as it does on a GPU to the last bit or so.

    Source: ONNX Runtime, "Quantize ONNX models", on U8S8 and saturation on AVX2 and AVX512.
    """
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
