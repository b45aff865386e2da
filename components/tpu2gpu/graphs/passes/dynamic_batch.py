"""Make a graph take any number of examples, in place of the number that a TPU's core took in each step of training.

Graphs for TPUs have static shapes, so that a network which reads the batch from a shape carries it in constants. Which
of them hold it is proved by following shapes: what must equal the batch is the batch. Where that cannot be proved, the
signature keeps the fixed batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import numpy as np

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.edit import add, const, const_value, replace_all_uses
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, split_tensor
from tpu2gpu.graphs.ops import DT_INT32
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.shapes.claims import loosen_claims
from tpu2gpu.graphs.shapes.propagation import BatchPropagation
from tpu2gpu.graphs.shapes.symbolic import BATCH, MustBeBatchError, Origin, Shape, Size, number
from tpu2gpu.graphs.signatures import tensor_names

_MOST_ROUNDS = 500


@attrs.frozen
class BatchReport:
    """A report of what became of the batch.

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


@attrs.frozen
class MakeBatchDynamic(Pass):
    """Make a model take any number of examples, or a wanted one; the change is `batch`, a BatchReport.

    Attributes:
        trained_with: The batch that the model's constants were written for, where that is known.
        wanted: The number of examples to fix; any number when not given.
    """

    trained_with: int | None = None
    wanted: int | None = None

    def requires(self, model: ServingModel) -> Iterable[str]:
        """List inputs that are no placeholders, where a batch is to change: they have no shape to set."""
        inputs = [model.nodes[name] for name in _placeholders(model)] if self.trained_with or self.wanted else []
        return [
            f"{node.name} ({node.op}): an input that is no placeholder"
            for node in inputs
            if not node.op.startswith("Placeholder")
        ]

    def run(self, model: ServingModel) -> Changes:
        """Set the batch of inputs, and of the constants that hold it.

        Raises:
            GraphError: Another batch is wanted, and constants may hold the old one.
        """
        return {"batch": attrs.asdict(make_batch_dynamic(model, self.trained_with, self.wanted))}

    def summary(self, changes: Changes) -> list[str]:
        """Tell how many constants hold the batch no more, or what still may."""
        batch = changes["batch"]
        phrases = [f"frees {len(batch['constants'])} constants of the batch"] if batch["constants"] else []
        if batch["held_by"]:
            phrases.append(f"keeps the batch of {batch['batch']}, which {next(iter(batch['held_by']))} may hold")
        return phrases


def make_batch_dynamic(model: ServingModel, trained_with: int | None, wanted: int | None) -> BatchReport:
    """Set the batch of inputs, and of the constants that hold it; the arguments are MakeBatchDynamic's.

    Raises:
        GraphError: Another batch is wanted, and constants may hold the old one.
    """
    batch = trained_with or (_fixed_batch(model) if wanted else None)
    if batch is None:
        if wanted:
            _set_inputs(model, None, wanted)
        return BatchReport(wanted)
    propagation, as_batch = _follow(model, batch)
    _set_output_shapes(model, propagation)
    if propagation.unproved:
        if wanted not in (None, batch):
            raise GraphError(
                f"--batch {wanted}: the graph was made for {batch} examples, and nodes may hold that number",
                details=[f"{name}: {reason}" for name, reason in propagation.unproved.items()],
                hint=f"leave --batch out, and give {batch} examples in each request",
            )
        _set_inputs(model, batch, batch)
        return BatchReport(batch, batch, held_by=propagation.unproved)
    if wanted != batch:
        _ConstantRewriter(model, batch, wanted).rewrite(as_batch)
        _forget_element_shapes(model, batch, propagation)
        loosen_claims(model, propagation.shape)
    _set_inputs(model, batch, wanted)
    _set_output_shapes(model, propagation, wanted)
    return BatchReport(wanted, batch, tuple(sorted({name for name, _ in as_batch})))


def _follow(model: ServingModel, batch: int) -> tuple[BatchPropagation, frozenset[Origin]]:
    """Follow the batch until no other constant turns out to hold it."""
    inputs = {name: _batched(model.nodes[name], batch) for name in _placeholders(model)}
    as_batch: frozenset[Origin] = frozenset()
    for _ in range(_MOST_ROUNDS):
        propagation = BatchPropagation(model, batch, inputs, as_batch)
        try:
            propagation.run()
        except MustBeBatchError as found:
            if found.origins <= as_batch:
                raise GraphError(f"the batch in {sorted(found.origins)} contradicts itself") from None
            as_batch |= found.origins
            continue
        return propagation, as_batch
    raise GraphError(f"the batch stands in more than {_MOST_ROUNDS} constants")


def _placeholders(model: ServingModel) -> list[str]:
    """Return the nodes of the signatures' inputs."""
    return sorted({split_tensor(tensor)[0] for tensor in model.input_tensors()})


def _fixed_batch(model: ServingModel) -> int | None:
    """Return the batch that all inputs have, None where they have several, or any."""
    shapes = [model.nodes[name].attr["shape"].shape for name in _placeholders(model)]
    sizes = {shape.dim[0].size for shape in shapes if shape.dim}
    return sizes.pop() if len(sizes) == 1 and min(sizes) > 0 else None


def _batched(placeholder: Any, batch: int) -> Shape | None:
    """Return a placeholder's shape with the batch as its first size; None for an unknown rank."""
    shape = placeholder.attr["shape"].shape
    if shape.unknown_rank:
        return None
    sizes: list[Size | None] = [None if dim.size < 0 else number(dim.size) for dim in shape.dim]
    if sizes and (sizes[0] is None or sizes[0].at(batch) == batch):
        sizes[0] = BATCH
    return tuple(sizes)


@attrs.frozen
class _ConstantRewriter:
    """Puts the batch of a request, or the wanted one, where constants hold the old one.

    Attributes:
        model: The model.
        batch: The batch that its constants hold.
        wanted: The number of examples to fix; that of a request when not given.
    """

    model: ServingModel
    batch: int
    wanted: int | None

    def rewrite(self, as_batch: frozenset[Origin]) -> None:
        """Rewrite the elements of constants, or their sizes, that are the batch."""
        elements: dict[str, list[int]] = {}
        for name, index in sorted(as_batch):
            elements.setdefault(name, []).append(index)
        for name, indices in elements.items():
            if indices[0] < 0:
                self._make_shape_dynamic(name, [-1 - index for index in indices])
            else:
                self._make_value_dynamic(name, indices)

    def _make_value_dynamic(self, name: str, indices: list[int]) -> None:
        """Give those who take a constant another one, or one that is computed from the batch of the request."""
        nodes = self.model.nodes
        value = const_value(nodes[name])
        for node in list(nodes.values()):
            for position, reference in enumerate(data_inputs(node)):
                if reference != name:
                    continue
                if self.wanted is not None:
                    sizes = value.reshape(-1)[indices] // self.batch * self.wanted
                    node.input[position] = const(nodes, f"{name}/batch", _with(value, indices, sizes))
                elif (node.op in ("Reshape", "Slice") and len(indices) == 1) and not (value == -1).any():
                    node.input[position] = const(nodes, f"{name}/batch", _with(value, indices, -1))
                elif node.op == "StridedSlice" and position == 2:
                    for index in indices:
                        node.attr["end_mask"].i |= 1 << index
                else:
                    node.input[position] = self._sizes(name, value, indices)

    def _make_shape_dynamic(self, name: str, axes: list[int]) -> None:
        """Make a constant of equal elements, such as a zero state, as long as the batch."""
        nodes = self.model.nodes
        value = const_value(nodes[name])
        element, shape = value.reshape(-1)[0], np.array(value.shape, np.int32)
        if self.wanted is not None:
            shape[axes] = shape[axes] // self.batch * self.wanted
            by = const(nodes, f"{name}/batch", np.full(shape, element, value.dtype))
        else:
            sizes = self._sizes(const(nodes, f"{name}/shape", shape), shape, axes)
            inputs = [sizes, const(nodes, f"{name}/value", element)]
            dtype = nodes[name].attr["dtype"].type
            by = add(nodes, f"{name}/batch", "Fill", inputs, T=dtype, index_type=DT_INT32).name
        replace_all_uses(nodes.values(), {name: by})

    def _sizes(self, name: str, value: Any, indices: list[int]) -> str:
        """Add a vector of sizes in which some are the batch of the request, or multiples of it."""
        nodes = self.model.nodes
        dtype = nodes[name].attr["dtype"].type
        factors = _with(np.zeros_like(value), indices, value.reshape(-1)[indices] // self.batch)
        size = self._batch_size(dtype)
        factors_name = const(nodes, f"{name}/each", factors)
        product = add(nodes, f"{name}/examples", "Mul", [factors_name, size], T=dtype).name
        fixed = const(nodes, f"{name}/fixed", _with(value, indices, 0))
        return str(add(nodes, f"{name}/sizes", "AddV2", [product, fixed], T=dtype).name)

    def _batch_size(self, dtype: int) -> str:
        """Return the node that counts the examples of a request, added when it is asked for first."""
        nodes, name = self.model.nodes, f"batch/size_{dtype}"
        if name in nodes:
            return name
        placeholder = _placeholders(self.model)[0]
        input_dtype = nodes[placeholder].attr["dtype"].type
        shape = add(nodes, f"batch/shape_{dtype}", "Shape", [placeholder], T=input_dtype, out_type=dtype)
        bounds = [const(nodes, f"batch/bound_{dtype}", np.array([bound], np.int32)) for bound in (0, 1, 1)]
        node = add(nodes, name, "StridedSlice", [shape.name, *bounds], T=dtype, Index=DT_INT32)
        node.attr["shrink_axis_mask"].i = 1
        for mask in ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask"):
            node.attr[mask].i = 0
        return name


def _with(value: Any, indices: list[int], elements: Any) -> Any:
    """Return a copy of an array in which some elements, counted flat, are others."""
    changed = value.copy().reshape(-1)
    changed[indices] = elements
    return changed.reshape(value.shape)


def _forget_element_shapes(model: ServingModel, batch: int, propagation: BatchPropagation) -> None:
    """Loosen what arrays in loops claim of their elements, where a size may be the batch."""
    for node in model.nodes.values():
        element = propagation.shape(node.name) if node.op == "TensorArrayGatherV3" else None
        proved = [size is not None and not size.batched for size in element[1:]] if element else []
        for attribute in ("element_shape", "element_shape_except0"):
            if node.op.startswith("TensorArray") and attribute in node.attr:
                for place, dim in enumerate(node.attr[attribute].shape.dim):
                    if dim.size % batch == 0 and not (place < len(proved) and proved[place]):
                        dim.size = -1


def _set_inputs(model: ServingModel, batch: int | None, wanted: int | None) -> None:
    """Give placeholders and signatures the batch that they take now."""
    size = -1 if wanted is None else wanted
    shapes = [model.nodes[name].attr["shape"].shape for name in _placeholders(model)]
    shapes += [info.tensor_shape for it in model.signatures.values() for info in it.inputs.values()]
    for shape in shapes:
        if shape.dim and shape.dim[0].size in (-1, batch):
            shape.dim[0].size = size


def _set_output_shapes(model: ServingModel, propagation: BatchPropagation, wanted: int | None = None) -> None:
    """Write into signatures what shapes their outputs have."""
    for signature in model.signatures.values():
        for info in signature.outputs.values():
            if info.WhichOneof("encoding") != "name":
                continue
            shape = propagation.shape(join_tensor(*split_tensor(tensor_names(info)[0])))
            if shape is None:
                continue
            info.tensor_shape.Clear()
            for size in shape:
                unknown = size is None or (size.batched and wanted is None)
                info.tensor_shape.dim.add(size=-1 if unknown or size is None else size.at(wanted or 1))
