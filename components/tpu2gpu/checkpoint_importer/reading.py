"""Reads any source that an import takes, and brings it to the form for serving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from tpu2gpu.checkpoint_importer.formats.checkpoint import (
    parse_inputs,
    parse_meta_graph,
    parse_outputs,
    serve_training_graph,
)
from tpu2gpu.checkpoint_importer.formats.keras_models import holds_model
from tpu2gpu.checkpoint_importer.found import Found
from tpu2gpu.errors import GraphError, UnsupportedError, UsageError
from tpu2gpu.graphs.formats import detection as sources
from tpu2gpu.graphs.formats.detection import Source
from tpu2gpu.graphs.formats.saved_model import (
    VARIABLES_PREFIX,
    choose_meta_graph,
    parse_saved_model,
    read_saved_model,
)
from tpu2gpu.graphs.model import DEFAULT_SIGNATURE, ServingModel
from tpu2gpu.graphs.passes.serving_form import clear_attributes, serve_meta_graph, signature_of
from tpu2gpu.graphs.passes.to_inference import Input, to_inference
from tpu2gpu.graphs.passes.training_ops import check_inference_form
from tpu2gpu.storage.paths import Place
from tpu2gpu.tensorbundle.reader import Bundle

if TYPE_CHECKING:
    from tpu2gpu.checkpoint_importer.options import ImportOptions


def read_source(source: Source, options: ImportOptions) -> Found:
    """Read a source as a serving model.

    Args:
        source: What was found at the path.
        options: What to import, and how.

    Raises:
        Tpu2GpuError: It cannot be read, or cannot serve.
    """
    inputs, outputs = parse_inputs(options.input), parse_outputs(options.output)
    _check_options(source, options)
    if source.kind == sources.SAVED_MODEL:
        return read_served(source.path, inputs, outputs)
    if source.kind == sources.GRAPH_DEF:
        return _read_frozen(source.path, inputs, outputs)
    if source.kind == sources.CHECKPOINT and not options.graph:
        return _read_checkpoint(source, inputs, outputs, options)
    from tpu2gpu.checkpoint_importer.formats.weights_only import read_onto_graph

    return read_onto_graph(source, options)


def _check_options(source: Source, options: ImportOptions) -> None:
    """Check that no option is given that only a checkpoint heeds.

    Raises:
        UsageError: Some are; all are listed.
    """
    in_keras_form = source.kind in (sources.KERAS, sources.HDF5)
    if in_keras_form and (options.graph or not holds_model(source.path)):
        return
    if not in_keras_form and source.kind not in (sources.SAVED_MODEL, sources.GRAPH_DEF):
        return
    given = {
        "--graph": bool(options.graph),
        "--step": options.step is not None,
        "--use-ema": options.use_ema,
        "--drop": bool(options.drop),
    }
    if any(given.values()):
        raise UsageError(
            f"{', '.join(option for option, is_given in given.items() if is_given)}: nothing for a {source.kind}, "
            "which has a graph of its own and its weights in it",
            hint="give a checkpoint as SOURCE; a SavedModel's is FOLDER/variables/variables, with --graph FOLDER",
        )


def read_served(folder: Place, inputs: list[Input], outputs: Mapping[str, str]) -> Found:
    """Read a SavedModel; one that is in training form, or made for TPUs, is brought to the form for serving."""
    if inputs or outputs:
        return _transform(folder, inputs, outputs)
    try:
        model = read_saved_model(folder)
        check_inference_form(model, folder)
        clear_attributes(model)
        return Found(model, {})
    except GraphError as refusal:
        found = _transform(folder, [], {})
        if not found.done:  # nothing of training was in it: the refusal had another reason
            raise refusal from None
        return found


def _transform(folder: Place, inputs: list[Input], outputs: Mapping[str, str]) -> Found:
    """Brings a SavedModel's graph to the form for serving, its signatures kept unless outputs are given."""
    meta = choose_meta_graph(parse_saved_model(folder), folder)
    served = serve_meta_graph(meta, folder, folder / VARIABLES_PREFIX, inputs, outputs)
    return Found(served.model, served.done, None, served.batch)


def _read_checkpoint(source: Source, inputs: list[Input], outputs: Mapping[str, str], options: ImportOptions) -> Found:
    if not source.meta.is_file():
        raise UnsupportedError(
            f"{source.path}: a bare checkpoint has no graph ({source.meta.name} is missing)",
            hint="give --graph: a SavedModel, a .meta or .pb file, or package.module:function that builds it",
        )
    return serve_training_graph(
        parse_meta_graph(source.meta),
        Bundle(source.path),
        inputs,
        outputs,
        use_ema=options.use_ema,
        drop=options.drop,
        rename=options.rename,
    )


def _read_frozen(path: Place, inputs: list[Input], outputs: Mapping[str, str]) -> Found:
    """Read a frozen graph, and make variables of its weights."""
    from tpu2gpu.graphs.formats.graph_def import read_graph_def
    from tpu2gpu.graphs.passes.find_weights import WeightFinder
    from tpu2gpu.graphs.passes.unfreeze_constants import make_variables

    model = read_graph_def(path)
    done: dict[str, list[str]] = {}
    try:
        if inputs or outputs:
            raise GraphError("inputs and outputs are given")
        check_inference_form(model, path)
    except GraphError:
        model, done = _transform_frozen(model, inputs, outputs)
    make_variables(model, WeightFinder(model).find())
    return Found(model, done)


def _transform_frozen(
    model: ServingModel, inputs: list[Input], outputs: Mapping[str, str]
) -> tuple[ServingModel, dict[str, list[str]]]:
    from tensorflow.core.framework import graph_pb2

    graph = graph_pb2.GraphDef(node=model.nodes.values(), versions=model.versions)
    graph.library.function.extend(model.functions.values())
    signature = model.signatures[DEFAULT_SIGNATURE]
    wanted = dict(outputs) or {key: info.name for key, info in signature.outputs.items()}
    served = to_inference(graph, model.ops, inputs, wanted)
    changed = attrs.evolve(model, nodes=served.nodes, functions=served.functions)
    changed.signatures = {DEFAULT_SIGNATURE: signature_of(served, model.ops)}
    clear_attributes(changed)
    changed.prune()
    return changed, served.done
