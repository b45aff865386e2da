"""Cut a graph: placeholders in place of the infeeds, iterators and other tensors that bring examples in."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from tpu2gpu.errors import SignatureError
from tpu2gpu.graphs.edit import add, restate, set_inputs
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import OpDefs, data_inputs, join_tensor, split_tensor
from tpu2gpu.graphs.ops import PLACEHOLDERS, REF_VARIABLES
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.passes.training.feature_names import feature_names
from tpu2gpu.graphs.passes.training.rewriter import Rewriter
from tpu2gpu.graphs.shapes.noted_shapes import (
    NOTED,
    StaticShape,
    forget_notes,
    merged,
    noted_shape,
    sizes_of,
    write_sizes,
)
from tpu2gpu.graphs.signatures import tensor_names

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


@attrs.frozen
class Input:
    """An input that a model is to have.

    Attributes:
        name: What its signature calls it.
        tensor: The tensor of the training graph that it takes the place of.
        dtype: DataType number; 0 for that of the tensor.
        shape: Sizes, None for unknown ones; None for that of the tensor.
        is_stated: Nothing is cut: a signature, or a placeholder, has this input, and its shape is told.
    """

    name: str
    tensor: str
    dtype: int = 0
    shape: StaticShape | None = None
    is_stated: bool = False


class ReplaceInfeeds(Pass):
    """Make inputs of everything that still brings examples in; the change is `infeeds`, but for placeholders.

    Where no input was chosen, this finds them. A placeholder is an input under its own name; what comes out of infeeds
    and iterators is called as the graph's own parser of tf.Examples calls it, else `features`, with numbers where there
    are several.
    """

    PHRASES: ClassVar = {"infeeds": "replaces {} tensors of infeeds"}

    def run(self, model: ServingModel) -> Changes:
        """Put placeholders in place of feeds, and add them to the signatures.

        Raises:
            SignatureError: Nothing feeds the outputs, or two inputs have one name.
        """
        with Rewriter(model) as graph:
            feeds = _feeds(graph)
            needed = {name: _needed(graph, signature) for name, signature in model.signatures.items()}
            for given in feeds:
                placeholder = cut(graph, given)
                for name, nodes in needed.items():
                    if split_tensor(given.tensor)[0] in nodes:
                        add_input(model.signatures[name], given.name, placeholder)
        if not model.input_tensors():
            raise SignatureError(
                "no infeed, iterator or placeholder feeds the outputs", hint="cut with --input NAME=TENSOR:DTYPE:SHAPE"
            )
        infeeds = [given.tensor for given in feeds if given.tensor != given.name]
        return {"infeeds": infeeds} if infeeds else {}


def _feeds(graph: Rewriter) -> list[Input]:
    made, seen, waiting = graph.input_nodes(), set(), graph.outputs()
    feeds: dict[str, Input] = {}
    for reference in waiting:
        source, index = graph.resolve(reference)
        if source.op in FEEDS and source.name not in made and not _is_computed(graph, source):
            tensor = join_tensor(source.name, index)
            feeds[tensor] = Input(source.name if source.op.startswith("Placeholder") else "", tensor)
        elif source.name not in seen:  # what brings examples to a feed is no concern of the model
            seen.add(source.name)
            waiting += data_inputs(source)
    unnamed = sorted((tensor for tensor, given in feeds.items() if not given.name), key=split_tensor)
    names = {tensor: _feature_name(graph, tensor) for tensor in unnamed}
    if all(names.values()) and len({*names.values(), *graph.nodes}) == len(names) + len(graph.nodes):
        feeds |= {tensor: attrs.evolve(feeds[tensor], name=name) for tensor, name in names.items()}
        return list(feeds.values())
    for number, tensor in enumerate(unnamed):
        name = "features" if len(unnamed) == 1 else f"features_{number}"
        feeds[tensor] = attrs.evolve(feeds[tensor], name=name)
    return list(feeds.values())


def _needed(graph: Rewriter, signature: Any) -> set[str]:
    """Return the nodes that a signature's outputs need."""
    tensors = [graph.current(tensor) for info in signature.outputs.values() for tensor in tensor_names(info)]
    return {node.name for node in graph.ancestors(tensors)}


def _feature_name(graph: Rewriter, tensor: str) -> str:
    """Return how the graph's parser of examples calls what a feed gives, or nothing."""
    name, index = split_tensor(tensor)
    names = feature_names(graph.nodes.values(), graph.model.functions, graph.nodes[name])
    return names[index] if index < len(names) else ""


def _is_computed(graph: Rewriter, node: Any) -> bool:
    """Tell whether a placeholder's default holds: a setting of known sizes, or what the network itself computes.

    Otherwise it brings examples in: its default is what a data set gives, or an example of any size.
    """
    if node.op != "PlaceholderWithDefault":
        return False
    shape = node.attr["shape"].shape
    makers = {it.op for it in graph.ancestors(data_inputs(node))}
    is_setting = not shape.unknown_rank and all(dim.size >= 0 for dim in shape.dim) and makers.isdisjoint(FEEDS)
    return is_setting or not makers.isdisjoint({*PLACEHOLDERS, *REF_VARIABLES, "VarHandleOp"})


def cut(graph: Rewriter, given: Input) -> Any:
    """Put a placeholder in a tensor's place, and return it; a placeholder of this name stays, with its default.

    Raises:
        SignatureError: The tensor's type is not known.
    """
    node, index = graph.nodes[split_tensor(given.tensor)[0]], split_tensor(given.tensor)[1]
    dtype, shape = _type_and_shape(graph.model.ops, node, index)
    if given.shape is not None and merged([given.shape, shape]) != given.shape:
        forget_notes(graph.nodes.values())  # they were written for the shape that the graph has
    dtype, shape = given.dtype or dtype, given.shape if given.shape is not None else shape
    if not dtype:
        raise SignatureError(
            f"input {given.name!r}: the type of {given.tensor} is unknown",
            hint=f"give it: --input {given.name}={given.tensor}:DTYPE:SHAPE",
        )
    if node.op == "Placeholder" and node.name == given.name:
        placeholder = node
    elif node.op == "PlaceholderWithDefault" and node.name == given.name and given.shape is None:
        if graph.node(data_inputs(node)[0]).op == "Const":
            return node  # may be left out: the default is at hand
        restate(node, "Placeholder", dtype=dtype)
        set_inputs(node, [])
        placeholder = node
    else:
        placeholder = add(graph.nodes, given.name, "Placeholder", dtype=dtype)
        graph.replace(given.tensor, placeholder.name)
    placeholder.attr["dtype"].type = dtype
    write_sizes(placeholder.attr["shape"].shape, shape)
    return placeholder


def add_input(signature: Any, name: str, placeholder: Any) -> None:
    """Add a placeholder to a signature's inputs.

    Raises:
        SignatureError: It has an input of this name.
    """
    if name in signature.inputs:
        raise SignatureError(f"two inputs are called {name!r}", hint="name them with --input NAME=TENSOR")
    info = signature.inputs[name]
    info.name, info.dtype = f"{placeholder.name}:0", placeholder.attr["dtype"].type
    info.tensor_shape.CopyFrom(placeholder.attr["shape"].shape)


def has_shape(node: Any) -> bool:
    """Tell whether a node's attributes tell the shapes of its outputs."""
    return node.op in FEEDS or NOTED in node.attr


def _type_and_shape(ops: OpDefs, node: Any, index: int) -> tuple[int, StaticShape | None]:
    """Return the type of a node's output, 0 where it is not known, and its shape, None where that is not."""
    slots = ops.outputs(node)
    dtype = slots[index].type_of(node) if slots and index < len(slots) else 0
    shapes: list[Any] = []
    if node.op in FEEDS:
        types, attribute = FEEDS[node.op]
        listed = list(node.attr[types].list.type)
        dtype = dtype or (listed[index] if index < len(listed) else int(node.attr[types].type))
        shapes = list(node.attr[attribute].list.shape) or [node.attr[attribute].shape]
    declared = sizes_of(shapes[index]) if index < len(shapes) else None
    return dtype, merged([declared, noted_shape(node, index)])
