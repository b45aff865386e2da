"""Runs a signature of a SavedModel in TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tpu2gpu.errors import SignatureError, SourceError, UnsupportedError, UsageError
from tpu2gpu.graphs.formats.saved_model import choose_meta_graph, parse_saved_model
from tpu2gpu.options import did_you_mean
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.runner import TensorSpec, check_feeds


class SavedModelRunner:
    """A signature of a SavedModel, as any TensorFlow user would load it.

    Args:
        path: The folder that holds `saved_model.pb`.
        signature: Which signature.
        threads: Threads inside one operation and across operations; TensorFlow's own choice when None.

    Attributes:
        function: The signature as a TensorFlow function; it takes and gives tensors by name.

    Raises:
        SourceError: It is no SavedModel, or it is damaged.
        SignatureError: It has no such signature.
        UnsupportedError: The rank of an input is unknown.
        UsageError: TensorFlow runs already in this process, with another number of threads.
    """

    kind = "saved_model"
    concurrency = 1

    def __init__(
        self, path: str | os.PathLike[str], *, signature: str = "serving_default", threads: int | None = None
    ) -> None:
        self._path = Path(path)
        meta = choose_meta_graph(parse_saved_model(self._path), self._path)
        import tensorflow as tf

        set_threads(threads)
        try:
            self._loaded = tf.saved_model.load(str(path), tags=sorted(meta.meta_info_def.tags))
        except Exception as error:  # TensorFlow raises errors of every kind for damaged models
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise SourceError(f"{path}: TensorFlow cannot load it ({reason})", hint="export the model again") from error
        known = sorted(self._loaded.signatures)
        if signature not in known:
            raise SignatureError(
                f"{path}: no signature '{signature}', it has {', '.join(known) or 'none'}",
                hint=did_you_mean(signature, known),
            )
        self.function = self._loaded.signatures[signature]
        self.inputs = _specs(self.function.structured_input_signature[1])
        self.outputs = _specs(self.function.structured_outputs)
        if unknown := [spec.name for spec in self.inputs if not spec.ranked]:
            raise UnsupportedError(
                f"{path}: the number of dimensions is unknown for {', '.join(unknown)}",
                hint="export the model with shapes whose rank is known",
            )

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Answer one request; strings come as objects of type bytes."""
        import tensorflow as tf

        arrays = check_feeds(self.inputs, feeds, self._path)
        outputs = self.function(**{name: tf.constant(array) for name, array in arrays.items()})
        return {spec.name: outputs[spec.name].numpy() for spec in self.outputs}

    def describe(self) -> dict[str, Any]:
        """What runs, and on what."""
        return describe_tensorflow(self.kind)

    def close(self) -> None:
        """Let go of the model; TensorFlow frees its variables."""
        self._loaded = self.function = None


def describe_tensorflow(kind: str) -> dict[str, Any]:
    """A runner's description of TensorFlow in this process."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return {
        "kind": kind,
        "provider": "TensorFlow",
        "device": devices[0].name.removeprefix("/device:"),
        "threads": tf.config.threading.get_intra_op_parallelism_threads() or None,
        "versions": {"tensorflow": tf.__version__},
    }


def _specs(structure: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, tensor.dtype.name, tuple(tensor.shape or ()), tensor.shape.rank is not None)
        for name, tensor in sorted(structure.items())
    )


def set_threads(threads: int | None) -> None:
    """Set TensorFlow's threads inside one operation and across operations; its own choice when None.

    Raises:
        UsageError: TensorFlow runs already in this process, with another number of threads.
    """
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
