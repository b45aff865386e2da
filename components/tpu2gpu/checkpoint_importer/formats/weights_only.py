"""Puts weights that come without a graph onto one: bare checkpoints, first-format checkpoints, Keras files."""

from __future__ import annotations

import importlib
import inspect
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.checkpoint_importer.formats.checkpoint import (
    parse_inputs,
    parse_meta_graph,
    parse_outputs,
    serve_training_graph,
)
from tpu2gpu.checkpoint_importer.formats.keras_files import read_weights
from tpu2gpu.checkpoint_importer.formats.keras_models import holds_model, rebuild_model
from tpu2gpu.checkpoint_importer.found import Found
from tpu2gpu.checkpoint_importer.reading import read_served
from tpu2gpu.errors import SourceError, Tpu2GpuError, UnsupportedError, UsageError
from tpu2gpu.graphs.formats import detection as sources
from tpu2gpu.graphs.formats.detection import Source, find_source
from tpu2gpu.graphs.formats.variable_restore import Restored, object_names, restore_variables
from tpu2gpu.graphs.passes.rename_variables import new_name, parse_rules
from tpu2gpu.storage.paths import Place, fetched, place
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.version1 import read_version1

if TYPE_CHECKING:
    from tpu2gpu.checkpoint_importer.options import ImportOptions


def read_onto_graph(source: Source, options: ImportOptions) -> Found:
    """Read weights onto a graph that is given, or that lies beside them.

    Raises:
        UnsupportedError: There is no graph.
        UsageError: The graph is none that we know.
        Tpu2GpuError: Weights and graph do not fit.
    """
    if source.kind == sources.META_GRAPH:
        raise SourceError(f"{source.path}: a graph without its checkpoint", hint="give the checkpoint's prefix")
    if not options.graph:
        if source.kind in (sources.KERAS, sources.HDF5) and holds_model(source.path):
            with _explained(source.path):
                return _exported(rebuild_model(source.path))
        if source.kind == sources.CHECKPOINT_V1 and source.meta.is_file():
            return _onto_meta(source.meta, source, options)
        raise UnsupportedError(
            f"{source.path}: a bare checkpoint has no graph"
            if source.kind not in (sources.KERAS, sources.HDF5)
            else f"{source.path}: holds weights alone, and no model",
            hint="give --graph: a SavedModel, a .meta or .pb file, or package.module:function that builds it",
        )
    path = place(options.graph)
    if path.exists():
        return _onto_file(path, source, options)
    if ":" in options.graph:
        return _onto_built(_load(options.graph), source, options)
    raise UsageError(
        f"--graph {options.graph}: neither there nor of the form package.module:function", hint="check the path"
    )


def _weights(source: Source) -> Any:
    if source.kind == sources.CHECKPOINT:
        return Bundle(source.path)
    if source.kind == sources.CHECKPOINT_V1:
        return read_version1(source.path)
    return read_weights(source.path)


def _onto_file(path: Place, source: Source, options: ImportOptions) -> Found:
    graph = find_source(path)
    if graph.kind == sources.META_GRAPH or path.suffix == ".meta":
        return _onto_meta(path, source, options)
    if graph.kind == sources.CHECKPOINT and graph.meta.is_file():
        return _onto_meta(graph.meta, source, options)
    if graph.kind == sources.GRAPH_DEF:
        return _serve(_meta_of_graph_def(path), source, options)
    if graph.kind == sources.SAVED_MODEL:
        return _onto_saved_model(path, source, options)
    raise UsageError(f"--graph {path}: a {graph.kind} holds no graph", hint="give a SavedModel, or a .meta or .pb file")


def _onto_meta(path: Place, source: Source, options: ImportOptions) -> Found:
    return _serve(parse_meta_graph(path), source, options)


def _serve(meta: Any, source: Source, options: ImportOptions) -> Found:
    return serve_training_graph(
        meta,
        _weights(source),
        parse_inputs(options.input),
        parse_outputs(options.output),
        use_ema=options.use_ema,
        drop=options.drop,
        rename=options.rename,
    )


def _meta_of_graph_def(path: Place) -> Any:
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import meta_graph_pb2

    meta = meta_graph_pb2.MetaGraphDef()
    try:
        if path.suffix == ".pb":
            meta.graph_def.ParseFromString(path.read_bytes())
        else:
            text_format.Parse(path.read_text(encoding="utf-8"), meta.graph_def)
    except (DecodeError, UnicodeDecodeError, text_format.ParseError) as error:
        raise SourceError(f"{path}: damaged, it cannot be parsed", hint="fetch it again") from error
    return meta


def _onto_saved_model(folder: Place, source: Source, options: ImportOptions) -> Found:
    """Take a SavedModel's graph, and each variable's value from elsewhere, by the variable's name."""
    found = read_served(folder, parse_inputs(options.input), parse_outputs(options.output))
    model, rules = found.model, parse_rules(options.rename)
    trainable = {name for name, variable in model.variables.items() if variable.trainable}
    own = {name: Restored(variable.key) for name, variable in model.variables.items()}
    weights = _weights(source)
    if hasattr(weights, "name_like"):
        weights = weights.name_like(model)
    model.bundle, model.variables = weights, {}
    restored = restore_variables(
        model,
        own,
        trainable,
        use_ema=options.use_ema,
        drop=options.drop,
        rename=lambda name: new_name(name, rules),
        names=object_names(weights),
    )
    return attrs.evolve(found, restored=restored)


def _load(spec: str) -> Callable[[], Any]:
    module, _, name = spec.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"--graph {spec}: {error}", hint="give package.module:function that can be imported"
        ) from error
    if not callable(function):
        raise UsageError(f"--graph {spec}: not a function")
    return function  # type: ignore[no-any-return]


def _onto_built(build: Callable[[], Any], source: Source, options: ImportOptions) -> Found:
    """Call a function that builds a Keras model, or a TensorFlow 1 graph with its outputs by name."""
    import tensorflow as tf

    with _explained(options.graph):
        try:
            built = build()
        except RuntimeError as error:
            if "eager" not in str(error).lower():
                raise
            built = None
    if hasattr(built, "export") and hasattr(built, "load_weights"):
        return _onto_keras(built, source, options)
    graph = tf.Graph()
    with _explained(options.graph), graph.as_default():
        outputs = build()
        meta = tf.compat.v1.train.export_meta_graph(graph=graph)
    if not isinstance(outputs, dict) or not all(hasattr(it, "name") for it in outputs.values()):
        raise UsageError(
            f"--graph {options.graph}: gives {type(outputs).__name__}",
            hint="return a Keras model, or in a TensorFlow 1 graph the output tensors by name (a dict)",
        )
    named = {name: tensor.name for name, tensor in outputs.items()}
    return serve_training_graph(
        meta,
        _weights(source),
        parse_inputs(options.input),
        parse_outputs(options.output) or named,
        use_ema=options.use_ema,
        drop=options.drop,
        rename=options.rename,
    )


def _onto_keras(model: Any, source: Source, options: ImportOptions) -> Found:
    """Let Keras, or the object-based checkpoint's own reader, fill a model, and read what it exports."""
    if source.kind in (sources.KERAS, sources.HDF5):
        opened = _archived_weights if source.kind == sources.KERAS else fetched
        with _explained(source.path), opened(source.path) as weights:
            model.load_weights(weights)
        return _exported(model)
    with tempfile.TemporaryDirectory() as folder:
        _export(model, folder)
        return _onto_saved_model(Path(folder), source, options)


@contextmanager
def _archived_weights(path: Place) -> Iterator[Path]:
    import zipfile

    with tempfile.TemporaryDirectory() as folder, path.open("rb") as file, zipfile.ZipFile(file) as archive:
        archive.extract("model.weights.h5", folder)
        yield Path(folder, "model.weights.h5")


def _export(model: Any, folder: str) -> None:
    quietly = {"verbose": False} if "verbose" in inspect.signature(model.export).parameters else {}  # not in Keras 2
    model.export(folder, **quietly)


def _exported(model: Any) -> Found:
    # What is read lazily from here must live until it is written.
    holder = tempfile.TemporaryDirectory()
    _export(model, holder.name)
    return attrs.evolve(read_served(Path(holder.name), [], {}), keep_alive=holder)


@contextmanager
def _explained(what: object) -> Iterator[None]:
    """Make what foreign code raises one of our errors."""
    try:
        yield
    except (Tpu2GpuError, RuntimeError) as error:
        if isinstance(error, Tpu2GpuError) or "eager" in str(error).lower():
            raise
        raise SourceError(f"{what}: {error}") from error
    except Exception as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        raise SourceError(
            f"{what}: {type(error).__name__}: {first}", hint="give --graph package.module:function that builds it"
        ) from error
