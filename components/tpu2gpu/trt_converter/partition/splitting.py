"""Makes a model of each part of a model: what runs before, on and after the accelerator."""

from __future__ import annotations

from typing import Any

import attrs

from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, is_control, producer, split_tensor
from tpu2gpu.trt_converter.partition.assignment import CORE, PARTS, POST, PRE, Placement, initialising
from tpu2gpu.trt_converter.partition.costs import Costs
from tpu2gpu.trt_converter.partition.part import Part, Split
from tpu2gpu.trt_converter.partition.split_report import report_of
from tpu2gpu.trt_converter.partition.unsupported_ops import DT_STRING, UNKNOWN


def name_outputs(model: ServingModel, signature: str) -> None:
    """Give every output of the signature a node of its own, so that it has a part."""
    from tensorflow.core.framework import node_def_pb2

    for key, info in sorted(model.signatures[signature].outputs.items()):
        node = node_def_pb2.NodeDef(name=model.free_name(f"answer_{key}"), op="Identity")
        name, index = split_tensor(info.name)
        node.input.append(name if index == 0 else f"{name}:{index}")
        node.attr["T"].type = info.dtype
        model.nodes[node.name] = node
        info.name = f"{node.name}:0"


def split(model: ServingModel, signature: str, placement: Placement, costs: Costs) -> Split:
    """Make a model of each part.

    Args:
        model: What `place` was asked about.
        signature: Its signature.
        placement: What `place` said.
        costs: What its nodes cost.
    """
    return _Splitter(model, signature, placement, costs).split()


class _Splitter:
    def __init__(self, model: ServingModel, signature: str, placement: Placement, costs: Costs) -> None:
        self._model, self._signature, self._placement, self._costs = model, signature, placement, costs
        definition = model.signatures[signature]
        self._inputs = {split_tensor(info.name)[0]: key for key, info in sorted(definition.inputs.items())}
        self._infos = definition
        self._taken = {*definition.inputs, *definition.outputs}
        self._wires: dict[str, str] = {}
        self.output_tensors: dict[str, str] = {}
        for key in sorted(definition.outputs):
            name = key
            while name in definition.inputs or (name != key and name in self._taken):
                name += "_output"
            self._taken.add(name)
            self.output_tensors[key] = name
        self._answer_nodes = {
            split_tensor(info.name)[0]: self.output_tensors[key] for key, info in definition.outputs.items()
        }

    def split(self) -> Split:
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
        certain = any(why != UNKNOWN for why in self._placement.refused.values())
        wires = {
            reference: (wire, PARTS[self._part_of(producer(reference)) or 0]) for reference, wire in self._wires.items()
        }
        report = report_of(self._model, self._placement, self._costs, parts, wires)
        return Split(parts, self.output_tensors, report, certain)

    def _part_of(self, name: str) -> int | None:
        if name in self._placement.parts:
            return self._placement.parts[name]
        # An answer that depends on no input, or is one, is given by the core; strings by TensorFlow.
        if name in self._answer_nodes:
            is_text = self._model.nodes[name].attr["T"].type == DT_STRING
            last = max(self._placement.parts.values())
            return (POST if last == POST else PRE) if is_text else CORE
        return None

    def _needed(self, members: list[str], number: int) -> dict[str, str]:
        """The tensors that a part's nodes take from former parts, with their wires."""
        found: dict[str, str] = {}
        for name in members:
            for reference in data_inputs(self._model.nodes[name]):
                part = self._part_of(producer(reference))
                if part is not None and part != number:
                    found[reference] = self._wire(reference)
        return found

    def _wire(self, reference: str) -> str:
        """The name of a tensor between parts: an answer's, or one made of its node's."""
        if reference not in self._wires:
            node, index = split_tensor(reference)
            scope = [
                word for word in node.split("/") if not word.startswith(("StatefulPartitionedCall", "Partitioned"))
            ]
            wanted = "".join(c if c.isalnum() and c.isascii() else "_" for c in "_".join(scope[-2:])).strip("_")
            wanted = f"cut_{wanted or 'tensor'}" + (f"_{index}" if index else "")
            name, number = wanted, 0
            while name in self._taken:
                number += 1
                name = f"{wanted}_{number}"
            self._taken.add(name)
            self._wires[reference] = name
        return self._wires[reference]

    def _part(self, number: int, members: list[str], needed: dict[str, str], later: list[dict[str, str]]) -> Part:
        from tensorflow.core.framework import node_def_pb2
        from tensorflow.core.protobuf import meta_graph_pb2

        signature = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
        nodes: dict[str, Any] = {}
        feeds: dict[str, str] = {}
        for reference, wire in needed.items():
            node = node_def_pb2.NodeDef(name=self._free(f"wire_{wire}"), op="Placeholder")
            node.attr["dtype"].type = self._costs.dtypes[reference]
            node.attr["shape"].shape.CopyFrom(self._shape(reference))
            nodes[node.name] = node
            feeds[reference] = node.name
            self._tensor(signature.inputs[wire], f"{node.name}:0", reference)
        own = set(members)
        stack = list(members)
        while stack:  # and what depends on no input
            name = stack.pop()
            if name in nodes or (self._part_of(name) is not None and name not in own):
                continue
            node = type(self._model.nodes[name])()
            node.CopyFrom(self._model.nodes[name])
            if name in own:
                del node.input[:]
                node.input.extend(
                    feeds.get(reference, reference)
                    for reference in self._model.nodes[name].input
                    if not is_control(reference) or self._stays(producer(reference), own)
                )
            nodes[name] = node
            stack.extend(
                producer(r) for r in node.input if producer(r) in self._model.nodes and r not in feeds.values()
            )
            if name in self._inputs:
                key = self._inputs[name]
                signature.inputs[key].CopyFrom(self._infos.inputs[key])
        for reference in dict.fromkeys(reference for each in later for reference in each):
            if producer(reference) in own:
                self._tensor(signature.outputs[self._wires[reference]], reference, reference)
        for name in members:
            if name in self._answer_nodes:
                self._tensor(signature.outputs[self._answer_nodes[name]], name, name)
        return self._finished(PARTS[number], nodes, signature, members)

    def _stays(self, name: str, own: set[str]) -> bool:
        return name in own or self._part_of(name) is None

    def _finished(self, name: str, nodes: dict[str, Any], signature: Any, members: list[str]) -> Part:
        model = attrs.evolve(
            self._model,
            nodes={**{key: node for key, node in self._model.nodes.items() if key not in nodes}, **nodes},
            signatures={self._signature: signature},
            functions=dict(self._model.functions),
        )
        if not (initialising(self._model) - _constants(self._model)) & nodes.keys():
            model.init_node, model.assets = "", []
        model.prune()
        wires_in, wires_out = ({key: key for key in sorted(each)} for each in (signature.inputs, signature.outputs))
        return Part(name, model, wires_in, wires_out, members)

    def _free(self, wanted: str) -> str:
        return self._model.free_name(wanted)

    def _tensor(self, info: Any, name: str, reference: str) -> None:
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


def _constants(model: ServingModel) -> set[str]:
    return {name for name, node in model.nodes.items() if node.op == "Const"}
