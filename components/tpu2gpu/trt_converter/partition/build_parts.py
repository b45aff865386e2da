"""Models of the parts of a model: what runs before, on and after the accelerator."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import attrs

from tpu2gpu.graphs.edit import add, free_name, new_node, set_inputs, walk
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, is_control, join_tensor, producer, split_tensor
from tpu2gpu.graphs.ops import DT_STRING
from tpu2gpu.graphs.signatures import new_signature
from tpu2gpu.trt_converter.onnx.names import output_names
from tpu2gpu.trt_converter.partition.assignment import CORE, PARTS, POST, PRE, Assignment, initialising
from tpu2gpu.trt_converter.partition.costs import Costs
from tpu2gpu.trt_converter.partition.part import ModelPart, Partition
from tpu2gpu.trt_converter.partition.partition_report import report_of
from tpu2gpu.trt_converter.partition.unsupported_ops import UNKNOWN

_CALL_SCOPES = ("StatefulPartitionedCall", "Partitioned")


def name_outputs(model: ServingModel, signature: str) -> None:
    """Give every output of the signature a node of its own, so that it has a part."""
    for key, info in sorted(model.signatures[signature].outputs.items()):
        node = add(model.nodes, f"output_{key}", "Identity", [join_tensor(*split_tensor(info.name))], T=info.dtype)
        info.name = f"{node.name}:0"


def partition_model(model: ServingModel, signature: str, assignment: Assignment, costs: Costs) -> Partition:
    """Make a model of each part.

    Args:
        model: What `assign` was asked about.
        signature: Its signature.
        assignment: What `assign` said.
        costs: What its nodes cost.
    """
    return _Builder(model, signature, assignment, costs).build()


class _Builder:
    """The parts of one model in the making."""

    def __init__(self, model: ServingModel, signature: str, assignment: Assignment, costs: Costs) -> None:
        self._model, self._signature, self._assignment, self._costs = model, signature, assignment, costs
        self._definition = definition = model.signatures[signature]
        self._inputs = {split_tensor(info.name)[0]: key for key, info in sorted(definition.inputs.items())}
        self._boundary: dict[str, str] = {}  # for each tensor across a cut its name
        self._output_tensors = output_names(definition.inputs, definition.outputs)
        self._taken = {*definition.inputs, *definition.outputs, *self._output_tensors.values()}
        self._outputs = {
            split_tensor(info.name)[0]: self._output_tensors[key] for key, info in definition.outputs.items()
        }

    def build(self) -> Partition:
        members: list[list[str]] = [[] for _ in PARTS]
        for name in self._model.nodes:
            if (part := self._part_of(name)) is not None:
                members[part].append(name)
        needed = [self._needed(names, number) for number, names in enumerate(members)]
        parts = [
            self._part(number, names, needed[number], needed[number + 1 :])
            for number, names in enumerate(members)
            if names
        ]
        boundary = {
            reference: (name, PARTS[self._part_of(producer(reference)) or 0])
            for reference, name in self._boundary.items()
        }
        report = report_of(self._model, self._assignment, self._costs, parts, boundary)
        certain = any(why != UNKNOWN for why in self._assignment.unsupported.values())
        return Partition(parts, self._output_tensors, report, certain)

    def _part_of(self, name: str) -> int | None:
        """Return the part that alone holds a node; None where it stands in every part that needs it."""
        if name in self._assignment.parts:
            return self._assignment.parts[name]
        # An output that depends on no input, or is one, is given by the core; strings by TensorFlow.
        if name in self._outputs:
            is_text = self._model.nodes[name].attr["T"].type == DT_STRING
            last = max(self._assignment.parts.values())
            return (POST if last == POST else PRE) if is_text else CORE
        return None

    def _needed(self, members: list[str], number: int) -> dict[str, str]:
        """Return the tensors that a part's nodes take from former parts, with their names."""
        found: dict[str, str] = {}
        for name in members:
            for reference in data_inputs(self._model.nodes[name]):
                part = self._part_of(producer(reference))
                if part is not None and part != number:
                    found[reference] = self._boundary_name(reference)
        return found

    def _boundary_name(self, reference: str) -> str:
        """Return the name of a boundary tensor, made of its node's."""
        if reference not in self._boundary:
            node, index = split_tensor(reference)
            scope = [word for word in node.split("/") if not word.startswith(_CALL_SCOPES)]
            wanted = "".join(c if c.isalnum() and c.isascii() else "_" for c in "_".join(scope[-2:])).strip("_")
            name = free_name(self._taken, f"cut_{wanted or 'tensor'}" + (f"_{index}" if index else ""))
            self._taken.add(name)
            self._boundary[reference] = name
        return self._boundary[reference]

    def _part(self, number: int, members: list[str], needed: dict[str, str], later: list[dict[str, str]]) -> ModelPart:
        """Make one part.

        Args:
            number: Which part.
            members: The nodes that it alone holds.
            needed: The tensors that it takes from former parts, with their names.
            later: The same of the parts after it.
        """
        signature = new_signature()
        nodes: dict[str, Any] = {}
        feeds: dict[str, str] = {}
        for reference, boundary in needed.items():
            node = new_node(free_name(self._model.nodes, f"boundary_{boundary}"), "Placeholder")
            node.attr["dtype"].type = self._costs.dtypes[reference]
            node.attr["shape"].shape.CopyFrom(self._shape(reference))
            nodes[node.name] = node
            feeds[reference] = node.name
            self._describe(signature.inputs[boundary], f"{node.name}:0", reference)
        own = set(members)
        for name in walk(members, lambda name: self._own_or_shared(name, own, feeds), depth_first=True):
            node = type(self._model.nodes[name])()
            node.CopyFrom(self._model.nodes[name])
            if name in own:
                set_inputs(node, self._kept_inputs(name, own, feeds))
            nodes[name] = node
            if name in self._inputs:
                key = self._inputs[name]
                signature.inputs[key].CopyFrom(self._definition.inputs[key])
        for reference in dict.fromkeys(reference for each in later for reference in each):
            if producer(reference) in own:
                self._describe(signature.outputs[self._boundary[reference]], reference, reference)
        for name in members:
            if name in self._outputs:
                self._describe(signature.outputs[self._outputs[name]], name, name)
        return self._finished(PARTS[number], nodes, signature, members)

    def _own_or_shared(self, name: str, own: Collection[str], feeds: Collection[str]) -> Iterable[str]:
        """Return the nodes that a node needs in its part: the part's own, and those that depend on no input."""
        inputs = self._kept_inputs(name, own, {}) if name in own else self._model.nodes[name].input
        return [producer(each) for each in inputs if each not in feeds and self._stays(producer(each), own)]

    def _kept_inputs(self, name: str, own: Collection[str], feeds: dict[str, str]) -> list[str]:
        """Return the inputs of a part's own node, with placeholders for tensors of former parts."""
        return [
            feeds.get(reference, reference)
            for reference in self._model.nodes[name].input
            if not is_control(reference) or self._stays(producer(reference), own)
        ]

    def _stays(self, name: str, own: Collection[str]) -> bool:
        return name in own or self._part_of(name) is None

    def _finished(self, name: str, nodes: dict[str, Any], signature: Any, members: list[str]) -> ModelPart:
        model = attrs.evolve(
            self._model,
            nodes={**{key: node for key, node in self._model.nodes.items() if key not in nodes}, **nodes},
            signatures={self._signature: signature},
            functions=dict(self._model.functions),
        )
        constants = {key for key, node in self._model.nodes.items() if node.op == "Const"}
        if not (initialising(self._model) - constants) & nodes.keys():
            model.init_node, model.assets = "", []
        model.prune()
        takes, gives = (tuple(sorted(each)) for each in (signature.inputs, signature.outputs))
        return ModelPart(name, model, takes, gives, members)

    def _describe(self, info: Any, name: str, reference: str) -> None:
        """Fill in a TensorInfo for a tensor of the whole model."""
        node, index = split_tensor(name)
        info.name = f"{node}:{index}"
        info.dtype = self._costs.dtypes[reference]
        info.tensor_shape.CopyFrom(self._shape(reference))

    def _shape(self, reference: str) -> Any:
        from tensorflow.core.framework import tensor_shape_pb2

        shape = self._costs.shapes[reference]
        proto = tensor_shape_pb2.TensorShapeProto(unknown_rank=shape is None)
        for size in shape or ():
            proto.dim.add(size=-1 if size is None else size)
        return proto
