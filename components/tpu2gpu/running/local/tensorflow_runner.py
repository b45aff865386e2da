"""The base of the runners that run a signature in TensorFlow, in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tpu2gpu.errors import GraphError, UnsupportedError, UsageError, first_line
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.runner import Feeds, TensorSpec, check_feeds


class TensorFlowRunner:
    """A signature as a TensorFlow function.

    Args:
        path: The model, for messages.
        threads: Threads inside one operation and across operations; TensorFlow's own choice when None.

    Attributes:
        function: What takes and gives tensors by name.

    Raises:
        UsageError: TensorFlow runs already in this process, with another number of threads.
    """

    kind: str
    concurrency = 1
    function: Any

    def __init__(self, path: str | os.PathLike[str], threads: int | None) -> None:
        self._path = Path(path)
        _set_threads(threads)

    @staticmethod
    def slow_imports(path: str) -> tuple[str, ...]:
        """Return the module of TensorFlow."""
        return ("tensorflow",)

    def _take(self, function: Callable[..., Any], inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Run a function from now on.

        Args:
            function: What takes and gives tensors by name.
            inputs: Its inputs by name: tensors, or specifications of them.
            outputs: Its outputs.

        Raises:
            UnsupportedError: The rank of an input is unknown.
        """
        self.function, self.inputs, self.outputs = function, _specs(inputs), _specs(outputs)
        if unknown := [spec for spec in self.inputs if not spec.ranked]:
            stated = " ".join(f"--input {spec.name}:{spec.dtype}:SHAPE" for spec in unknown)
            raise UnsupportedError(
                f"{self._path}: the number of dimensions is unknown for {', '.join(spec.name for spec in unknown)}",
                hint=f"import the model with {stated}, where SHAPE is ? for any number of values, ?x3 for rows of 3",
            )

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run one request; strings come as objects of type bytes.

        Raises:
            SignatureError: The feeds do not fit the inputs.
            GraphError: TensorFlow does not run the model on them.
        """
        import tensorflow as tf

        arrays = check_feeds(self.inputs, feeds, self._path)
        try:
            outputs = self.function(**{name: tf.constant(array) for name, array in arrays.items()})
            return {spec.name: as_array(outputs[spec.name].numpy()) for spec in self.outputs}
        except Exception as error:  # TensorFlow raises whatever it likes
            raise GraphError(f"{self._path}: TensorFlow does not run it on this ({first_line(error)})") from error

    def describe(self) -> dict[str, Any]:
        """Tell what runs, and on what."""
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return {
            "kind": self.kind,
            "provider": "TensorFlow",
            "device": devices[0].name.removeprefix("/device:"),
            "threads": tf.config.threading.get_intra_op_parallelism_threads() or None,
            "versions": {"tensorflow": tf.__version__},
        }

    def close(self) -> None:
        """Let go of the model; TensorFlow frees its variables."""
        self.function = None


def as_array(value: Any) -> Array:
    """Return what TensorFlow gives as an array; a string without dimensions comes as plain bytes."""
    return np.asarray(value, object) if isinstance(value, (bytes, str)) else np.asarray(value)


def _set_threads(threads: int | None) -> None:
    import tensorflow as tf

    if threads is None:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError as error:
        found = tf.config.threading.get_intra_op_parallelism_threads()
        raise UsageError(
            f"TensorFlow runs already in this process, with {found or 'its own number of'} threads, not {threads}",
            hint="open each model in a process of its own",
        ) from error


def _specs(tensors: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, tensor.dtype.name, tuple(tensor.shape or ()), tensor.shape.rank is not None)
        for name, tensor in sorted(tensors.items())
    )
