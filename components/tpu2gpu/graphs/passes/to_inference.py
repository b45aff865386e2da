"""Brings a training graph to the form for serving, on protos alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from tpu2gpu.errors import GraphError, SignatureError
from tpu2gpu.graphs.functions.training_inlining import LOOP_CARRIED, TrainingInliner
from tpu2gpu.graphs.nodes import OpDefs, join_tensor, split_tensor
from tpu2gpu.graphs.ops import TPU_OPS
from tpu2gpu.graphs.passes.batch_norm_inference import freeze_batch_norms
from tpu2gpu.graphs.passes.fold_training_phase import fold_phases
from tpu2gpu.graphs.passes.remove_dropout import remove_dropouts
from tpu2gpu.graphs.passes.remove_training_loops import unwrap
from tpu2gpu.graphs.passes.rewriter import TrainingGraph
from tpu2gpu.graphs.passes.training_ops import training_form
from tpu2gpu.options import did_you_mean

Shape = tuple[int | None, ...]

# What brings examples into a graph, and the attributes that tell their types and shapes.
FEEDS = {
    "InfeedDequeue": ("dtype", "shape"),
    "InfeedDequeueTuple": ("dtypes", "shapes"),
    "IteratorGetNext": ("output_types", "output_shapes"),
    "IteratorGetNextSync": ("output_types", "output_shapes"),
    "Placeholder": ("dtype", "shape"),
    "PlaceholderWithDefault": ("dtype", "shape"),
    "PlaceholderV2": ("dtype", "shape"),
}
_BYPASSED = {"CheckNumerics", "PreventGradient", "StopGradient", "EnsureShape", "Snapshot"}
_LOSSES = ("SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits")
_LOGISTIC = re.compile(r"(.*/)?logistic_loss(_\d+)?/GreaterEqual")
_REGRESSION = re.compile(
    r"(.*/)?(mean_squared_error(_\d+)?|loss/\w+_loss)/SquaredDifference|(.*/)?(absolute_difference|huber_loss)(_\d+)?/Sub"
)
# What an Estimator's model_fn makes of its logits, and what its signatures call that.
_PREDICTIONS = {"Softmax": "probabilities", "Sigmoid": "probabilities", "ArgMax": "classes"}
_LIKELY = ("Softmax", "LogSoftmax", "Sigmoid", "ArgMax", "TopKV2", "CombinedNonMaxSuppression")


@attrs.frozen
class Input:
    """An input that a model is to have.

    Attributes:
        name: What its signature calls it.
        tensor: The tensor of the training graph that it takes the place of.
        dtype: DataType number; 0 for that of the tensor.
        shape: Sizes, None for unknown ones; None for that of the tensor.
    """

    name: str
    tensor: str
    dtype: int = 0
    shape: Shape | None = None


@attrs.define
class InferenceGraph:
    """A graph for serving.

    Attributes:
        nodes: NodeDefs by name.
        functions: Bodies of control flow.
        inputs: For each input its placeholder's node, type and shape (None: of unknown rank).
        outputs: For each output its tensor.
        done: What was changed: kinds of change, and the nodes.
        batch: Examples that one core takes in each step of training, where the inputs tell.
    """

    nodes: dict[str, Any]
    functions: dict[str, Any]
    inputs: dict[str, tuple[str, int, Shape | None]]
    outputs: dict[str, str]
    done: dict[str, list[str]]
    batch: int | None = None


def to_inference(graph: Any, ops: OpDefs, inputs: Iterable[Input], outputs: Mapping[str, str]) -> InferenceGraph:
    """Brings a training graph to the form for serving.

    Training loops and the TPU's wrapping are taken away, batch norms read their moving statistics, dropouts are
    gone, training-phase placeholders say inference, infeeds become placeholders, and only what the outputs need stays.

    Args:
        graph: A GraphDef; its nodes are changed.
        ops: Definitions of its ops.
        inputs: Tensors to cut at; what else feeds the outputs becomes an input by itself.
        outputs: Tensors by name; when there are none, the logits before the loss.

    Raises:
        SignatureError: A named tensor is not there, outputs cannot be told, or nothing feeds them.
        GraphError: Something on the way to the outputs cannot serve; all such nodes are listed.
    """
    inliner = TrainingInliner(graph, ops)
    inliner.inline_all()
    training = TrainingGraph(inliner.nodes, inliner.functions, ops)
    ends = {name: _existing(training, inliner, tensor) for name, tensor in outputs.items()} or _logits(training)
    placeholders: dict[str, tuple[str, int, Shape | None]] = {}
    chosen = list(inputs)
    for given in chosen:
        tensor = _existing(training, inliner, given.tensor)
        _cut(training, attrs.evolve(given, tensor=tensor), placeholders)
    unwrap(training, ends.values())
    fold_phases(training, inliner, [placeholder for placeholder, _, _ in placeholders.values()])
    freeze_batch_norms(training)
    remove_dropouts(training, ends.values())
    for node in list(training.upward(ends.values())):
        if node.op in _BYPASSED:
            training.replace(node.name, node.input[0])
    _cut_feeds(training, ends, placeholders)
    final = {name: join_tensor(training.at(tensor)[0].name, training.at(tensor)[1]) for name, tensor in ends.items()}
    nodes = training.settle(final.values())
    _check(nodes, placeholders)
    sizes = {shape[0] for _, _, shape in placeholders.values() if shape and shape[0]}
    return InferenceGraph(
        nodes, training.functions, placeholders, final, training.done, sizes.pop() if len(sizes) == 1 else None
    )


def _existing(graph: TrainingGraph, inliner: TrainingInliner, tensor: str) -> str:
    current = inliner.current(tensor)
    name = split_tensor(current)[0]
    if name not in graph.nodes:
        near = did_you_mean(name, graph.nodes) if len(graph.nodes) < 50_000 else ""
        raise SignatureError(f"the graph has no tensor {tensor!r}", hint=near)
    return current


def _logits(graph: TrainingGraph) -> dict[str, str]:
    """What goes into the loss, when there is one loss, and what is predicted from it."""
    found: dict[str, str] = {}
    for node in graph.nodes.values():
        if not _is_loss(node):
            continue
        source, index = graph.through(node.input[0], {"Identity", "StopGradient"})
        while _belongs_to_loss(source, node):
            source, index = graph.through(source.input[0], {"Identity", "StopGradient"})
        found.setdefault(join_tensor(source.name, index), node.name)
    if len(found) == 1:
        [(tensor, loss)] = found.items()
        return {"predictions" if _REGRESSION.fullmatch(loss) else "logits": tensor, **_predictions(graph, tensor)}
    if found:
        raise SignatureError(
            f"the graph has {len(found)} losses, so its outputs cannot be told",
            details=[f"{tensor}: goes into {loss}" for tensor, loss in found.items()],
            hint="choose with --output NAME=TENSOR",
        )
    likely = candidate_outputs(graph.nodes.values())
    raise SignatureError(
        "the graph has no loss that is known, so its outputs cannot be told",
        details=likely[:20],
        hint="name them with --output NAME=TENSOR" + ("; these are likely" if likely else ""),
    )


def _predictions(graph: TrainingGraph, logits: str) -> dict[str, str]:
    """Probabilities and classes that the graph makes of the logits, where it does so in one way only."""
    found: dict[str, dict[tuple[str, str], str]] = {}
    for node in graph.nodes.values():
        if node.op not in _PREDICTIONS or node.name.startswith("gradients"):
            continue
        source, index = graph.through(node.input[0], {"Identity", "StopGradient", "Cast"})
        if join_tensor(source.name, index) == logits:
            way = (node.op, str(graph.constant(node.input[1])) if node.op == "ArgMax" else "")
            found.setdefault(_PREDICTIONS[node.op], {}).setdefault(way, node.name)
    return {name: next(iter(ways.values())) for name, ways in found.items() if len(ways) == 1}


def _belongs_to_loss(node: Any, loss: Any) -> bool:
    """Whether a node only lays out a loss's input as the loss wants it: a Reshape in its scope."""
    scope = node.name.rpartition("/")[0]
    own = node.name.startswith(f"{loss.name.removesuffix('/GreaterEqual')}/")
    return node.op == "Reshape" and (own or ("loss" in scope.lower() and loss.name.startswith(f"{scope}/")))


def candidate_outputs(nodes: Iterable[Any]) -> list[str]:
    """Tensors that could be a model's outputs: what goes into losses, and what looks like predictions."""
    nodes = list(nodes)
    by_name = {node.name: node for node in nodes}
    candidates: dict[str, str] = {}
    for node in nodes:
        if _is_loss(node):
            tensor = node.input[0]
            while (source := by_name.get(split_tensor(tensor)[0])) is not None and _belongs_to_loss(source, node):
                tensor = source.input[0]
            candidates[tensor] = f"goes into {node.name}"
        elif node.op in _LIKELY and not node.name.startswith("gradients"):
            candidates[node.name] = node.op
    return [f"{tensor} ({why})" for tensor, why in candidates.items()]


def _is_loss(node: Any) -> bool:
    known = node.op in _LOSSES or _LOGISTIC.fullmatch(node.name) or _REGRESSION.fullmatch(node.name)
    return bool(known and node.input and not node.name.startswith("gradients"))


def _cut_feeds(
    graph: TrainingGraph, ends: Mapping[str, str], placeholders: dict[str, tuple[str, int, Shape | None]]
) -> None:
    """Make inputs of everything that still feeds the outputs."""
    made = {placeholder for placeholder, _, _ in placeholders.values()}
    references = [*ends.values(), *(it for node in graph.upward(ends.values()) for it in graph.inputs(node))]
    taken: dict[str, Input] = {}
    for reference in references:
        source, index = graph.at(reference)
        if source.op in FEEDS and source.name not in made and not _is_setting(source):
            tensor = join_tensor(source.name, index)
            taken[tensor] = Input(source.name if source.op.startswith("Placeholder") else "", tensor)
    unnamed = sorted((tensor for tensor, given in taken.items() if not given.name), key=split_tensor)
    for number, tensor in enumerate(unnamed):
        name = "features" if len(unnamed) == 1 else f"features_{number}"
        taken[tensor] = attrs.evolve(taken[tensor], name=name)
    for given in taken.values():
        _cut(graph, given, placeholders)
    if not placeholders:
        raise SignatureError(
            "no infeed, iterator or placeholder feeds the outputs", hint="cut with --input NAME=TENSOR:DTYPE:SHAPE"
        )


def _is_setting(node: Any) -> bool:
    """Whether a placeholder is a number with a default, which then holds."""
    shape = node.attr["shape"].shape
    return bool(node.op == "PlaceholderWithDefault" and not shape.dim and not shape.unknown_rank)


def _cut(graph: TrainingGraph, given: Input, placeholders: dict[str, tuple[str, int, Shape | None]]) -> None:
    """Put a placeholder in a tensor's place."""
    if given.name in placeholders:
        raise SignatureError(f"two inputs are called {given.name!r}", hint="name them with --input NAME=TENSOR")
    node, index = graph.nodes[split_tensor(given.tensor)[0]], split_tensor(given.tensor)[1]
    dtype, shape = _type_and_shape(graph, node, index)
    dtype, shape = given.dtype or dtype, given.shape if given.shape is not None else shape
    if not dtype:
        raise SignatureError(
            f"input {given.name!r}: the type of {given.tensor} is unknown",
            hint=f"give it: --input {given.name}={given.tensor}:DTYPE:SHAPE",
        )
    if node.op == "Placeholder" and node.name == given.name:
        placeholder = node
    else:
        placeholder = graph.add(given.name, "Placeholder", dtype=dtype)
        graph.replace(given.tensor, placeholder.name)
    placeholder.attr["dtype"].type = dtype
    set_shape(placeholder, shape)
    placeholders[given.name] = (placeholder.name, dtype, shape)


def set_shape(placeholder: Any, shape: Shape | None) -> None:
    """Give a placeholder a shape; None for one of unknown rank."""
    attribute = placeholder.attr["shape"].shape
    attribute.Clear()
    attribute.unknown_rank = shape is None
    for size in shape or ():
        attribute.dim.add(size=-1 if size is None else size)


def _type_and_shape(graph: TrainingGraph, node: Any, index: int) -> tuple[int, Shape | None]:
    slots = graph.ops.outputs(node)
    dtype = slots[index].type_of(node) if slots and index < len(slots) else 0
    shapes: list[Any] = []
    if node.op in FEEDS:
        types, attribute = FEEDS[node.op]
        listed = list(node.attr[types].list.type)
        dtype = dtype or (listed[index] if index < len(listed) else int(node.attr[types].type))
        shapes = list(node.attr[attribute].list.shape) or [node.attr[attribute].shape]
    elif "_output_shapes" in node.attr:
        shapes = list(node.attr["_output_shapes"].list.shape)
    if index >= len(shapes) or shapes[index].unknown_rank:
        return dtype, None
    return dtype, tuple(dim.size if dim.size >= 0 else None for dim in shapes[index].dim)


def _check(nodes: Mapping[str, Any], placeholders: Mapping[str, Any]) -> None:
    """Check that nothing is left that cannot serve."""
    found = []
    for node in nodes.values():
        if node.op == LOOP_CARRIED:
            found.append(f"{node.name.removesuffix('/carried')}: a value that each round of training changes")
        elif re.fullmatch(r"_?Xla(Send|Recv|Host).*", node.op):
            found.append(f"{node.name} ({node.op}): computed outside of the TPU")
        elif TPU_OPS.fullmatch(node.op):
            found.append(f"{node.name} ({node.op}): an op of the TPU")
    alive = {name: node for name, node in nodes.items() if not name.startswith("gradients")}
    found += [
        f"{finding}, and no variable is updated from its statistics" if "batch norm" in finding else finding
        for finding in training_form(alive)
    ]
    if found:
        raise GraphError(
            "nodes on the way to the outputs cannot serve",
            details=found,
            hint="cut before them with --input, or choose other outputs with --output",
        )
