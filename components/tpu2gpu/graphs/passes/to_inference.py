"""Bring a training graph to the form for serving, as a serving model, on protos alone."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from tpu2gpu.errors import GraphError, InputError, SignatureError, UnsupportedError
from tpu2gpu.graphs.formats.saved_model import serving_signatures
from tpu2gpu.graphs.formats.variable_restore import find_variables
from tpu2gpu.graphs.functions.inlining import SideEffectsError
from tpu2gpu.graphs.functions.training_inlining import TrainingInliner
from tpu2gpu.graphs.model import DEFAULT_SIGNATURE, ServingModel
from tpu2gpu.graphs.nodes import OpDefs, split_tensor
from tpu2gpu.graphs.passes.base import Changes, Pass, Sequential
from tpu2gpu.graphs.passes.extra_passes import load_passes
from tpu2gpu.graphs.passes.training.batch_norm_inference import BatchNormInference
from tpu2gpu.graphs.passes.training.candidate_outputs import candidate_inputs, candidate_outputs
from tpu2gpu.graphs.passes.training.choose_outputs import choose_outputs
from tpu2gpu.graphs.passes.training.fix_inputs import FixInputs
from tpu2gpu.graphs.passes.training.fold_training_phase import FoldTrainingPhase
from tpu2gpu.graphs.passes.training.prune_to_serving import PruneToServing
from tpu2gpu.graphs.passes.training.remove_dropout import RemoveDropout
from tpu2gpu.graphs.passes.training.remove_training_loops import RemoveTrainingLoops
from tpu2gpu.graphs.passes.training.replace_infeeds import Input, ReplaceInfeeds, add_input, cut, has_shape
from tpu2gpu.graphs.passes.training.rewriter import Rewriter
from tpu2gpu.graphs.passes.training.training_ops import check_inference_form, check_serving
from tpu2gpu.graphs.shapes.inference import infer_tensors
from tpu2gpu.graphs.signatures import INIT_SIGNATURE, full_name, map_tensors, new_signature, tensor_names
from tpu2gpu.options import did_you_mean

_LIKELY = 4  # of the tensors that may be inputs or outputs, for an error
_CANDIDATES: dict[str, Callable[[Iterable[Any]], list[str]]] = {
    "inputs": candidate_inputs,
    "outputs": candidate_outputs,
}
# The order is that of what they require: loops hide the updates that batch norms are found by, and phases the dropouts.
PASSES: tuple[Pass, ...] = (
    RemoveTrainingLoops(),
    FoldTrainingPhase(),
    BatchNormInference(),
    RemoveDropout(),
    ReplaceInfeeds(),
    PruneToServing(),
)


@attrs.frozen
class Served:
    """A model that was brought to the form for serving.

    Attributes:
        model: The model; its variables are not there until they are found in a checkpoint.
        changes: What its graph went through.
        batch: Examples in each step of training on one core, where the inputs tell.
    """

    model: ServingModel
    changes: Changes
    batch: int | None


def to_inference(
    meta: Any,
    inputs: Iterable[Input] = (),
    outputs: Mapping[str, str] | None = None,
    *,
    keep_signatures: bool = False,
    passes: Iterable[Pass] = PASSES,
) -> Served:
    """Bring a training graph to the form for serving.

    Args:
        meta: A MetaGraphDef; its nodes are changed.
        inputs: Tensors to cut at; what else feeds the outputs becomes an input by itself.
        outputs: Tensors by name; when there are none, the logits before the loss.
        keep_signatures: Take inputs and outputs of its signatures; the others go unless it has none.
        passes: What to do, in this order.

    Raises:
        SignatureError: A named tensor is not there, outputs cannot be told, or nothing feeds them.
        GraphError: Something on the way to the outputs cannot serve; all such nodes are listed.
        UnsupportedError: There are tables beside the training graph.
    """
    model = _flat_model(meta, inputs, outputs or {}, serving_signatures(meta) if keep_signatures else {})
    changes = Sequential(passes, check_serving).run(model)
    if INIT_SIGNATURE in meta.signature_def and any("Table" in node.op for node in model.nodes.values()):
        raise UnsupportedError("tables beside a training graph are not imported", hint="export a signature for serving")
    return Served(model, changes, _batch(model))


def serve_meta_graph(
    meta: Any,
    prefix: str | os.PathLike[str],
    inputs: Iterable[Input] = (),
    outputs: Mapping[str, str] | None = None,
    *,
    passes: Iterable[Pass] = PASSES,
) -> Served:
    """Bring a MetaGraphDef and its checkpoint to the form for serving, signatures kept unless others are given.

    Args:
        meta: The MetaGraphDef.
        prefix: The checkpoint of its variables.
        inputs: Tensors to cut at.
        outputs: Tensors by name.
        passes: What to do, in this order.

    Raises:
        GraphError: Something on the way to the outputs cannot serve, or the checkpoint does not fit.
        SignatureError: A named tensor is not there.
        UnsupportedError: There are tables beside the training graph.
        CheckpointError: The checkpoint is damaged.
    """
    inputs = list(inputs)
    served = to_inference(copy.deepcopy(meta), inputs, outputs, keep_signatures=not (inputs or outputs), passes=passes)
    find_variables(served.model, meta, prefix)
    served.model.prune()
    return served


def serve_if_trained(
    read: Callable[[], ServingModel],
    read_meta_graph: Callable[[], Any],
    source: str | os.PathLike[str],
    prefix: str | os.PathLike[str],
    *,
    passes: Iterable[Pass] = PASSES,
) -> Served:
    """Read a model, and bring it to the form for serving where it is in training form, or made for TPUs.

    Args:
        read: Reads it as it is.
        read_meta_graph: Reads its MetaGraphDef.
        source: What errors call it.
        prefix: The checkpoint of its variables.
        passes: What to do with a training graph, in this order.

    Returns:
        The model, without changes where it serves already.

    Raises:
        GraphError: It cannot serve, or contradicts itself.
        Tpu2GpuError: It cannot be read.
    """
    try:
        model = read()
        check_inference_form(model, source)
    except GraphError as refusal:
        try:
            served = serve_meta_graph(read_meta_graph(), prefix, passes=passes)
        except InputError:
            if isinstance(refusal, SideEffectsError):  # it names the signatures
                raise refusal from None
            raise
        if not served.changes:  # nothing of training was in it: the refusal had another reason
            raise refusal from None
        return served
    return Served(model, {}, None)


def with_extra(specs: Iterable[str], fixed: Mapping[str, str] | None = None) -> tuple[Pass, ...]:
    """Return the passes with those of the user behind them.

    Args:
        specs: The user's passes, named by `MODULE:CLASS`.
        fixed: Values of inputs.

    Raises:
        UsageError: One cannot be loaded.
    """
    fix = [FixInputs(fixed)] if fixed else []
    return (*PASSES[:1], *fix, *PASSES[1:], *load_passes(specs))


def run_extra(model: ServingModel, specs: Iterable[str]) -> Changes:
    """Run passes of the user on a model that serves already, and check that it still does.

    Raises:
        UsageError: One cannot be loaded.
        GraphError: A pass failed, or left what cannot serve.
    """
    passes = load_passes(specs)
    return Sequential(passes, check_serving).run(model) if passes else {}


def _flat_model(
    meta: Any, inputs: Iterable[Input], outputs: Mapping[str, str], signatures: Mapping[str, Any]
) -> ServingModel:
    """Make a model of a whole training graph, updates of variables and all, cut at its inputs."""
    ops = OpDefs(meta.meta_info_def.stripped_op_list.op)
    functions = {function.signature.name: function for function in meta.graph_def.library.function}
    inliner = TrainingInliner({node.name: node for node in meta.graph_def.node}, functions, ops)
    inliner.inline_all()
    model = ServingModel(
        nodes=inliner.nodes,
        functions=functions,
        signatures={name: copy.deepcopy(signature) for name, signature in signatures.items()},
        variables={},
        ops=ops,
        bundle=None,
        init_node="",
        assets=[],
        versions=meta.graph_def.versions,
        tensorflow_version=meta.meta_info_def.tensorflow_version,
    )

    def current(tensor: str, kind: str = "outputs") -> str:
        found = inliner.current(tensor)
        if split_tensor(found)[0] not in model.nodes:
            raise _no_such_tensor(tensor, model, kind)
        return found

    with Rewriter(model) as graph:
        for signature in model.signatures.values():
            for info in [*signature.inputs.values(), *signature.outputs.values()]:
                map_tensors(info, lambda tensor: full_name(current(tensor)))
        _cut_signatures(graph)
        if not model.signatures:
            ends = {name: current(tensor) for name, tensor in outputs.items()} or choose_outputs(graph)
            model.signatures[DEFAULT_SIGNATURE] = signature = _signature(ends)
            cuts = [attrs.evolve(it, tensor=current(it.tensor, "inputs")) for it in inputs]
            for given in _with_shapes(model, cuts):
                placeholder = cut(graph, given)
                add_input(signature, given.name, placeholder)
    return model


def _no_such_tensor(tensor: str, model: ServingModel, kind: str) -> SignatureError:
    near = did_you_mean(split_tensor(tensor)[0], model.nodes) if len(model.nodes) < 50_000 else ""
    likely = ", ".join(_CANDIDATES[kind](model.nodes.values())[:_LIKELY])
    return SignatureError(
        f"the graph has no tensor {tensor!r}", hint=near or (f"its {kind} may be {likely}" if likely else "")
    )


def _with_shapes(model: ServingModel, inputs: list[Input]) -> list[Input]:
    """Fill in the shapes of tensors to cut at that neither the user nor an attribute tells, by shape inference."""
    if all(given.shape is not None or has_shape(model.nodes[split_tensor(given.tensor)[0]]) for given in inputs):
        return inputs
    try:
        shapes, _ = infer_tensors(model.graph_def())
    except (ValueError, TypeError, KeyError):  # an op that this TensorFlow does not know
        return inputs
    return [it if it.shape is not None else attrs.evolve(it, shape=shapes.get(it.tensor)) for it in inputs]


def _cut_signatures(graph: Rewriter) -> None:
    """Put placeholders in the place of the tensors that signatures take."""
    placeholders: dict[str, str] = {}
    for info in graph.model.infos("inputs"):
        dtype = info.dtype if info.WhichOneof("encoding") == "name" else 0
        for tensor in tensor_names(info):
            if tensor not in placeholders:
                name, index = split_tensor(tensor)
                wanted = name if index == 0 else f"{name}_{index}"
                placeholders[tensor] = cut(graph, Input(wanted, tensor, dtype)).name
        map_tensors(info, lambda tensor: f"{placeholders[tensor]}:0")


def _signature(outputs: Mapping[str, str]) -> Any:
    signature = new_signature()
    for name, tensor in outputs.items():
        signature.outputs[name].name = full_name(tensor)
        signature.outputs[name].tensor_shape.unknown_rank = True
    return signature


def _batch(model: ServingModel) -> int | None:
    """Return the first size of all inputs that have one, None where there is none, or several."""
    shapes = [model.nodes[split_tensor(tensor)[0]].attr["shape"].shape for tensor in model.input_tensors()]
    sizes = {shape.dim[0].size for shape in shapes if shape.dim and shape.dim[0].size > 0}
    return sizes.pop() if len(sizes) == 1 else None
