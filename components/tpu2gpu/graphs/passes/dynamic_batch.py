"""Frees a graph of the number of examples that a TPU's core took in each step of training.

Graphs for TPUs have static shapes, so that a network which reads the batch from a shape carries it in constants. Which
of them hold it is proved by following shapes: what must equal the batch is the batch. Where that cannot be proved, the
signature keeps the fixed batch.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.model import ServingModel, tensor_names
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, split_tensor
from tpu2gpu.graphs.shapes.propagation import BatchFlow
from tpu2gpu.graphs.shapes.symbolic import BATCH, MustBeBatchError, Origin, Shape, Size, number

_DT_INT32 = 3
_MOST_ROUNDS = 500


@attrs.frozen
class Freed:
    """What became of the batch.

    Attributes:
        batch: Examples in a request; None for any number.
        trained_with: Examples that one core took in each step of training, where the graph tells.
        constants: Constants that held the batch and do not any more.
        held_by: Nodes that may hold the batch, each with the reason; the batch stays fixed on their account.
    """

    batch: int | None = None
    trained_with: int | None = None
    constants: tuple[str, ...] = ()
    held_by: dict[str, str] = attrs.field(factory=dict)


def free_batch(model: ServingModel, trained_with: int | None, wanted: int | None) -> Freed:
    """Make a model take any number of examples, or a wanted one.

    Args:
        model: The model, changed in place.
        trained_with: The batch that its constants were written for, where that is known.
        wanted: The number of examples to fix; any number when not given.

    Raises:
        GraphError: Another batch is wanted, and constants may hold the old one.
    """
    batch = trained_with or (_fixed_batch(model) if wanted else None)
    if batch is None:
        if wanted:
            _set_inputs(model, None, wanted)
        return Freed(wanted)
    flow, as_batch = _follow(model, batch)
    _set_output_shapes(model, flow)
    if flow.unproved:
        if wanted not in (None, batch):
            raise GraphError(
                f"--batch {wanted}: the graph was made for {batch} examples, and nodes may hold that number",
                details=[f"{name}: {reason}" for name, reason in flow.unproved.items()],
                hint=f"leave --batch out, and give {batch} examples in each request",
            )
        _set_inputs(model, batch, batch)
        return Freed(batch, batch, held_by=flow.unproved)
    if wanted != batch:
        _rewrite(model, as_batch, batch, wanted)
        _forget_element_shapes(model, batch)
    _set_inputs(model, batch, wanted)
    _set_output_shapes(model, flow, wanted)
    return Freed(wanted, batch, tuple(sorted({name for name, _ in as_batch})))


def _follow(model: ServingModel, batch: int) -> tuple[BatchFlow, frozenset[Origin]]:
    """Follow the batch until no other constant turns out to hold it."""
    inputs = {name: _batched(model.nodes[name], batch) for name in _placeholders(model)}
    as_batch: frozenset[Origin] = frozenset()
    for _ in range(_MOST_ROUNDS):
        flow = BatchFlow(model, batch, inputs, as_batch)
        try:
            flow.run()
        except MustBeBatchError as found:
            if found.origins <= as_batch:
                raise GraphError(f"the batch in {sorted(found.origins)} contradicts itself") from None
            as_batch |= found.origins
            continue
        return flow, as_batch
    raise GraphError(f"the batch stands in more than {_MOST_ROUNDS} constants")


def _placeholders(model: ServingModel) -> list[str]:
    return sorted({split_tensor(tensor)[0] for tensor in model.input_tensors()})


def _fixed_batch(model: ServingModel) -> int | None:
    shapes = [model.nodes[name].attr["shape"].shape for name in _placeholders(model)]
    sizes = {shape.dim[0].size for shape in shapes if shape.dim}
    return sizes.pop() if len(sizes) == 1 and min(sizes) > 0 else None


def _batched(placeholder: Any, batch: int) -> Shape | None:
    shape = placeholder.attr["shape"].shape
    if shape.unknown_rank:
        return None
    sizes: list[Size | None] = [None if dim.size < 0 else number(dim.size) for dim in shape.dim]
    if sizes and (sizes[0] is None or sizes[0].at(batch) == batch):
        sizes[0] = BATCH
    return tuple(sizes)


def _rewrite(model: ServingModel, as_batch: frozenset[Origin], batch: int, wanted: int | None) -> None:
    """Put the batch of a request, or the wanted one, where constants hold the old one."""
    elements: dict[str, list[int]] = {}
    for name, index in sorted(as_batch):
        elements.setdefault(name, []).append(index)
    for name, indices in elements.items():
        if indices[0] < 0:
            _make_shape_dynamic(model, name, [-1 - index for index in indices], batch, wanted)
        else:
            _make_value_dynamic(model, name, indices, batch, wanted)


def _make_value_dynamic(model: ServingModel, name: str, indices: list[int], batch: int, wanted: int | None) -> None:
    from tensorflow.python.framework import tensor_util

    constant = model.nodes[name]
    value = tensor_util.MakeNdarray(constant.attr["value"].tensor)
    for node in list(model.nodes.values()):
        for position, reference in enumerate(data_inputs(node)):
            if reference != name:
                continue
            if wanted is not None:
                changed = value.copy().reshape(-1)
                changed[indices] = changed[indices] // batch * wanted
                node.input[position] = _constant(model, f"{name}/batch", changed.reshape(value.shape))
            elif (node.op in ("Reshape", "Slice") and len(indices) == 1) and not (value == -1).any():
                changed = value.copy().reshape(-1)
                changed[indices] = -1
                node.input[position] = _constant(model, f"{name}/batch", changed.reshape(value.shape))
            elif node.op == "StridedSlice" and position == 2:
                for index in indices:
                    node.attr["end_mask"].i |= 1 << index
            else:
                node.input[position] = _sizes(model, name, value, indices, batch)


def _sizes(model: ServingModel, name: str, value: Any, indices: list[int], batch: int) -> str:
    """A vector of sizes in which some are the batch of the request, or multiples of it."""
    factors, rest = np.zeros_like(value).reshape(-1), value.copy().reshape(-1)
    factors[indices], rest[indices] = rest[indices] // batch, 0
    dtype = model.nodes[name].attr["dtype"].type
    size = _batch_size(model, dtype)
    product = _add(
        model, f"{name}/examples", "Mul", [_constant(model, f"{name}/each", factors.reshape(value.shape)), size]
    )
    total = _add(
        model, f"{name}/sizes", "AddV2", [product, _constant(model, f"{name}/fixed", rest.reshape(value.shape))]
    )
    for node in (product, total):
        model.nodes[node].attr["T"].type = dtype
    return total


def _batch_size(model: ServingModel, dtype: int) -> str:
    """The number of examples in a request, as a node of the graph."""
    name = f"batch/size_{dtype}"
    if name in model.nodes:
        return name
    placeholder = _placeholders(model)[0]
    shape = model.nodes[_add(model, f"batch/shape_{dtype}", "Shape", [placeholder])]
    shape.attr["T"].type = model.nodes[placeholder].attr["dtype"].type
    shape.attr["out_type"].type = dtype
    bounds = [_constant(model, f"batch/bound_{dtype}", np.array([number], np.int32)) for number in (0, 1, 1)]
    node = model.nodes[_add(model, name, "StridedSlice", [shape.name, *bounds])]
    node.attr["T"].type, node.attr["Index"].type = dtype, _DT_INT32
    node.attr["shrink_axis_mask"].i = 1
    for mask in ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask"):
        node.attr[mask].i = 0
    return name


def _make_shape_dynamic(model: ServingModel, name: str, axes: list[int], batch: int, wanted: int | None) -> None:
    """Make a constant of equal elements, such as a zero state, as long as the batch."""
    from tensorflow.python.framework import tensor_util

    value = tensor_util.MakeNdarray(model.nodes[name].attr["value"].tensor)
    shape = np.array(value.shape, np.int32)
    if wanted is not None:
        shape[axes] = shape[axes] // batch * wanted
        by = _constant(model, f"{name}/batch", np.full(shape, value.reshape(-1)[0], value.dtype))
    else:
        sizes = _constant(model, f"{name}/shape", shape)
        sizes = _sizes(model, sizes, shape, axes, batch)
        by = _add(model, f"{name}/batch", "Fill", [sizes, _constant(model, f"{name}/value", value.reshape(-1)[0])])
        model.nodes[by].attr["T"].type = model.nodes[name].attr["dtype"].type
        model.nodes[by].attr["index_type"].type = _DT_INT32
    for node in model.nodes.values():
        for position, reference in enumerate(data_inputs(node)):
            if reference == name:
                node.input[position] = by


def _forget_element_shapes(model: ServingModel, batch: int) -> None:
    """Loosens what arrays in loops claim of their elements; it is a check, nothing depends on it."""
    for node in model.nodes.values():
        for attribute in ("element_shape", "element_shape_except0"):
            if node.op.startswith("TensorArray") and attribute in node.attr:
                for dim in node.attr[attribute].shape.dim:
                    if dim.size % batch == 0:
                        dim.size = -1


def _set_inputs(model: ServingModel, batch: int | None, wanted: int | None) -> None:
    """Give placeholders and signatures the batch that they take now."""
    size = -1 if wanted is None else wanted
    shapes = [model.nodes[name].attr["shape"].shape for name in _placeholders(model)]
    shapes += [info.tensor_shape for it in model.signatures.values() for info in it.inputs.values()]
    for shape in shapes:
        if shape.dim and shape.dim[0].size in (-1, batch):
            shape.dim[0].size = size


def _set_output_shapes(model: ServingModel, flow: BatchFlow, wanted: int | None = None) -> None:
    """Write into signatures what shapes their outputs have."""
    for signature in model.signatures.values():
        for info in signature.outputs.values():
            if info.WhichOneof("encoding") != "name":
                continue
            shape = flow.shape(join_tensor(*split_tensor(tensor_names(info)[0])))
            if shape is None:
                continue
            info.tensor_shape.Clear()
            for size in shape:
                unknown = size is None or (size.batched and wanted is None)
                info.tensor_shape.dim.add(size=-1 if unknown or size is None else size.at(wanted or 1))


def _constant(model: ServingModel, name: str, value: Any) -> str:
    from tensorflow.python.framework import tensor_util

    tensor = tensor_util.make_tensor_proto(value)
    node = model.nodes[_add(model, name, "Const", [])]
    node.attr["dtype"].type = tensor.dtype
    node.attr["value"].tensor.CopyFrom(tensor)
    return str(node.name)


def _add(model: ServingModel, name: str, op: str, inputs: list[str]) -> str:
    from tensorflow.core.framework import node_def_pb2

    node = node_def_pb2.NodeDef(name=model.free_name(name), op=op)
    node.input.extend(inputs)
    model.nodes[node.name] = node
    return str(node.name)
