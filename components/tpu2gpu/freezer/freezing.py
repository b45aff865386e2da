"""Freezes a SavedModel: variables become constants, everything else stays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.options import option
from tpu2gpu.progress import Progress, silent
from tpu2gpu.publishing import describe_source, publish

if TYPE_CHECKING:
    from tpu2gpu.graphs.serving_model import ServingModel

FORMATS = ("saved_model", "graph_def", "both")


@attrs.frozen(kw_only=True)
class FreezeOptions:
    """What to write.

    Attributes:
        format: A SavedModel, a GraphDef (`frozen_graph.pb` with `signature.json`), or both in one folder.
        signature: The signatures to keep; all when none is named.
    """

    format: str = option("saved_model", "what to write", choices=FORMATS)
    signature: tuple[str, ...] = option((), "keep this signature (default: all)", metavar="NAME")


@attrs.frozen
class FreezeResult:
    """What was frozen.

    Attributes:
        target: The folder that was written.
        frozen_variables: How many variables became constants.
        size_bytes: Their bytes.
        report: What `report.json` holds.
    """

    target: Path
    frozen_variables: int
    size_bytes: int
    report: dict[str, Any]


def freeze_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: FreezeOptions | None = None,
    *,
    force: bool = False,
    run_name: str = "",
    progress: Progress = silent,
) -> FreezeResult:
    """Freezes a SavedModel; signatures, assets and tables stay, and outputs are equal bit for bit.

    Weights go from the checkpoint to the graph's file as bytes, without a session and without a copy in memory.

    Args:
        source: A SavedModel.
        target: The folder to write.
        options: What to write.
        force: Replace an existing target.
        run_name: The pipeline run, for the manifest.
        progress: Told what is being done.

    Raises:
        SourceError: The source is not a SavedModel.
        SignatureError: A named signature is not there.
        CheckpointError: Its variables are damaged.
        GraphError: Its graph is in training form, or writes to its variables.
        UnsupportedError: Control flow captures a variable, or the graph would exceed 2 GiB.
        OutputExistsError: The target is there already.
    """
    from tpu2gpu.graphs.describing import describe_signatures, size_bytes
    from tpu2gpu.graphs.graph_def import write_graph_def
    from tpu2gpu.graphs.inference import check_inference_form
    from tpu2gpu.graphs.saved_model import read_saved_model, write_saved_model

    options = options or FreezeOptions()
    about = {"step": "freeze", "options": attrs.asdict(options), "source": describe_source(source), "run": run_name}
    with publish(target, force=force, about=about) as staging:
        progress("read the graph", 0, 2)
        model = read_saved_model(source)
        if options.signature:
            model.signatures = {name: model.signature(name) for name in options.signature}
            model.prune()
        check_inference_form(model, source)
        freeze_variables(model)
        frozen = [{"name": name, "size_bytes": size_bytes(it)} for name, it in sorted(model.constants.items())]
        staging.report = {
            "signatures": describe_signatures(model),
            "frozen": frozen,
            "size_bytes": sum(size_bytes(it) for it in model.constants.values()),
            "ops": model.op_counts(),
            "dropped_side_effects": [{"node": node, "op": op} for node, op in sorted(model.dropped_effects.items())],
        }
        progress("write the weights", 1, 2)
        if options.format != "graph_def":
            write_saved_model(model, staging.folder)
        if options.format != "saved_model":
            write_graph_def(model, staging.folder)
        progress("done", 2, 2)
    return FreezeResult(Path(target), len(frozen), staging.report["size_bytes"], staging.report)


def freeze_variables(model: ServingModel) -> None:
    """Puts a constant of the same name in the place of each variable, and takes out who read it.

    Args:
        model: The model, changed in place.

    Raises:
        UnsupportedError: Something other than a read or a gather takes a variable; all such nodes are listed.
    """
    from tpu2gpu.graphs.dataflow import consumers

    followers = consumers(model.nodes)
    takers = [(name, taker) for name in model.variables for taker, _ in followers[name]]
    captured = [
        f"{name}: taken by {taker.name} ({taker.op})"
        for name, taker in takers
        if taker.op not in ("ReadVariableOp", "ResourceGather", "ResourceGatherNd")
    ]
    if captured:
        raise UnsupportedError(
            "control flow captures variables, and this version cannot freeze those",
            details=captured,
            way_out="convert the model without freezing it",
        )
    readers = {taker.name: name for name, taker in takers if taker.op == "ReadVariableOp"}
    for _, taker in takers:
        if taker.op != "ReadVariableOp":
            _gather_from_constant(model, taker)
    for name, variable in model.variables.items():
        constant = type(model.nodes[name])(name=name, op="Const")
        constant.attr["dtype"].type = variable.dtype
        model.nodes[name] = constant
        model.constants[name] = variable
    model.variables = {}
    model.redirect(readers)
    model.prune()


def _gather_from_constant(model: ServingModel, node: Any) -> None:
    """Turns a gather from a variable into one from a tensor, in place."""
    params, indices = node.attr["dtype"].type, node.attr["Tindices"].type
    batch_dims = node.attr["batch_dims"].i
    if node.op == "ResourceGatherNd":
        node.op = "GatherNd"
    else:
        axis = type(node)(name=model.free_name(f"{node.name}/axis"), op="Const")
        axis.attr["dtype"].type = axis.attr["value"].tensor.dtype = _DT_INT32
        axis.attr["value"].tensor.tensor_shape.SetInParent()
        axis.attr["value"].tensor.int_val.append(batch_dims)
        model.nodes[axis.name] = axis
        node.op = "GatherV2"
        node.input.insert(2, axis.name)
        node.attr["batch_dims"].i = batch_dims
        node.attr["Taxis"].type = _DT_INT32
    for name in [name for name in node.attr if name not in ("batch_dims", "Taxis", "Tindices")]:
        del node.attr[name]
    if node.op == "GatherNd":
        node.attr.pop("batch_dims", None)
    node.attr["Tparams"].type, node.attr["Tindices"].type = params, indices


_DT_INT32 = 3
