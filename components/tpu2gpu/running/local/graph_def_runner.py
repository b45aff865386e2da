"""Runs a frozen GraphDef in TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tpu2gpu.errors import SignatureError, SourceError, UnsupportedError
from tpu2gpu.graphs.formats.graph_def import read_graph_def
from tpu2gpu.options import did_you_mean
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.local.saved_model_runner import describe_tensorflow, set_threads
from tpu2gpu.running.runner import TensorSpec, check_feeds


class GraphDefRunner:
    """A frozen graph; its inputs and outputs come from the `signature.json` beside it, or from its structure.

    Args:
        path: The file.
        signature: Which signature.
        threads: Threads inside one operation and across operations; TensorFlow's own choice when None.

    Raises:
        SourceError: TensorFlow does not take the graph.
        SignatureError: It has no such signature.
        UnsupportedError: The rank of an input is unknown.
        UsageError: TensorFlow runs already in this process, with another number of threads.
    """

    kind = "graph_def"
    concurrency = 1

    def __init__(
        self, path: str | os.PathLike[str], *, signature: str = "serving_default", threads: int | None = None
    ) -> None:
        self._path = Path(path)
        model = read_graph_def(self._path)
        if signature not in model.signatures:
            known = sorted(model.signatures)
            raise SignatureError(
                f"{path}: no signature '{signature}', it has {', '.join(known)}", hint=did_you_mean(signature, known)
            )
        import tensorflow as tf
        from tensorflow.core.framework import graph_pb2

        set_threads(threads)
        graph = graph_pb2.GraphDef(versions=model.versions)
        graph.node.extend(model.nodes.values())
        graph.library.function.extend(model.functions.values())
        names = model.signatures[signature]
        try:
            imported = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
            inputs = {key: imported.graph.get_tensor_by_name(info.name) for key, info in sorted(names.inputs.items())}
            outputs = {key: imported.graph.get_tensor_by_name(info.name) for key, info in sorted(names.outputs.items())}
            self._function = imported.prune(list(inputs.values()), list(outputs.values()))
        except Exception as error:  # TensorFlow raises errors of every kind for damaged graphs
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise SourceError(f"{path}: TensorFlow cannot load it ({reason})", hint="freeze the model again") from error
        self.inputs, self.outputs = _specs(inputs), _specs(outputs)
        if unknown := [spec.name for spec in self.inputs if not spec.ranked]:
            raise UnsupportedError(
                f"{path}: the number of dimensions is unknown for {', '.join(unknown)}",
                hint="freeze a model with shapes whose rank is known",
            )

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Answer one request; strings come as objects of type bytes."""
        import tensorflow as tf

        arrays = check_feeds(self.inputs, feeds, self._path)
        outputs = self._function(*(tf.constant(array) for array in arrays.values()))
        return {spec.name: output.numpy() for spec, output in zip(self.outputs, outputs, strict=True)}

    def describe(self) -> dict[str, Any]:
        """What runs, and on what."""
        return describe_tensorflow(self.kind)

    def close(self) -> None:
        """Let go of the graph."""
        self._function = None


def _specs(tensors: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name, tensor.dtype.name, tuple(tensor.shape if tensor.shape.rank else ()), tensor.shape.rank is not None
        )
        for name, tensor in tensors.items()
    )
