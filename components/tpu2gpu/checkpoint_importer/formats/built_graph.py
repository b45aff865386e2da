"""Graphs that a function of the user's builds, which `--graph MODULE:FUNCTION` names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tpu2gpu.checkpoint_importer.formats.base import ImportedModel, WeightsFormat
from tpu2gpu.checkpoint_importer.formats.custom_objects import BUILD_HINT
from tpu2gpu.checkpoint_importer.formats.keras import default_signature, export, name_outputs, read_exported
from tpu2gpu.checkpoint_importer.formats.meta_graph import serve_training_graph
from tpu2gpu.checkpoint_importer.formats.saved_model import SavedModel
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import SourceError, UsageError, foreign_errors
from tpu2gpu.storage.unfinished import scratch
from tpu2gpu.user_code import load_named


def load_weights_into_built(weights: WeightsFormat, options: ImportOptions) -> ImportedModel:
    """Call the function that builds a Keras model, or a TensorFlow 1 graph, and serve it with a source's weights.

    Raises:
        UsageError: It cannot be imported, or gives neither a Keras model nor outputs by name.
        SourceError: It fails.
        Tpu2GpuError: Weights and graph do not fit, or the graph cannot serve.
    """
    import tensorflow as tf

    build = _find(options.graph)
    with foreign_errors(SourceError, options.graph, hint=BUILD_HINT):
        try:
            built = build()
        except RuntimeError as error:
            if "eager" not in str(error).lower():
                raise
            built = None
    if hasattr(built, "export") and hasattr(built, "load_weights"):
        return _load_into_keras(built, weights, options)
    graph = tf.Graph()
    with foreign_errors(SourceError, options.graph, hint=BUILD_HINT), graph.as_default():
        outputs = build()
        meta = tf.compat.v1.train.export_meta_graph(graph=graph)
    if not isinstance(outputs, dict) or not all(hasattr(it, "name") for it in outputs.values()):
        raise UsageError(
            f"--graph {options.graph}: gives {type(outputs).__name__}",
            hint="return a Keras model, or in a TensorFlow 1 graph the output tensors by name (a dict)",
        )
    return serve_training_graph(meta, weights, options, {name: tensor.name for name, tensor in outputs.items()})


def _find(spec: str) -> Callable[[], Any]:
    function = load_named(f"--graph {spec}", spec, "package.module:function")
    if not callable(function):
        raise UsageError(f"--graph {spec}: not a function")
    return function  # type: ignore[no-any-return]


def _load_into_keras(model: Any, weights: WeightsFormat, options: ImportOptions) -> ImportedModel:
    """Let Keras, or the object-based checkpoint's own reader, fill a model, and read what it exports."""
    if weights.fill_keras(model):
        return read_exported(model, options)
    with scratch() as folder:
        export(model, folder)
        found = SavedModel(folder).load_weights(weights, default_signature(options))
        name_outputs(found.model, model)
        return found
