"""Cuts a model by dataflow into what runs before, on and after the accelerator, with the most compute on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs

from tpu2gpu.errors import ConversionError
from tpu2gpu.graphs.dataflow import data_inputs, is_control, producer, split_tensor
from tpu2gpu.graphs.serving_model import ServingModel
from tpu2gpu.trt_converter.costs import Costs
from tpu2gpu.trt_converter.refusing import DT_STRING, UNKNOWN, refused_nodes, uncut
from tpu2gpu.trt_converter.smallest_cut import INFINITE, Network

PARTS = ("pre", "core", "post")
_PRE, _CORE, _POST = range(3)
_SCALE = 1000  # of operations, so that the number of tensors across a cut decides only between equals
_SHAPE_MATH = frozenset(["Shape", "Size", "Rank", "StridedSlice", "Pack", "ConcatV2", "Prod", "Range", "Cast", "Mul"])
_SHOWN = 5


@attrs.frozen
class Placement:
    """Which node is in which part.

    Attributes:
        parts: For each node that depends on the input its part's index; the others stand wherever they are needed.
        refused: The nodes that the accelerator does not take, and why.
    """

    parts: dict[str, int]
    refused: dict[str, str]


def place(model: ServingModel, costs: Costs, *, for_engine: bool) -> Placement | None:
    """Decides for every node where it runs; None where all of the model can run in one piece.

    Each node that the accelerator refuses goes before it, with all that it needs, or after it, with all that needs
    it. Of all such choices the one is taken that leaves the most floating-point operations in the core, which a
    smallest cut in a network of two nodes for each operation ("not before the core", "after the core") finds.

    Args:
        model: A flat model with one signature; `name_outputs` has been called.
        costs: What its nodes cost.
        for_engine: Whether an engine shall run the core, or ONNX Runtime.

    Raises:
        ConversionError: Nothing that computes would be left for the core.
    """
    refused = refused_nodes(model, for_engine=for_engine)
    movable = _movable(model, refused)
    refused = {name: why for name, why in refused.items() if name in movable}
    if not refused:
        return None
    parts = _smallest_cut(model, costs, movable, refused)
    if not any(part == _CORE and costs.operations(model.nodes[name]) for name, part in parts.items()):
        raise ConversionError(
            "the model cannot be split: nothing that computes is left for the accelerator",
            details=summary(model, refused),
            way_out="serve it with TensorFlow, or take what is listed out of the signature",
        )
    return Placement(parts, refused)


def summary(model: ServingModel, refused: Mapping[str, str]) -> list[str]:
    """`OP: reason: names`, for each op and reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, why in refused.items():
        groups.setdefault((model.nodes[name].op, why), []).append(name)
    return [
        f"{op}: {why}: {', '.join(sorted(names)[:_SHOWN])}{_more(len(names))}"
        for (op, why), names in sorted(groups.items())
    ]


def _more(count: int) -> str:
    return f" and {count - _SHOWN} more" if count > _SHOWN else ""


def _movable(model: ServingModel, refused: Mapping[str, str]) -> dict[str, int]:
    """The nodes that one part alone holds: those that depend on the input, and refused ones; numbered."""
    takers: dict[str, list[str]] = {}
    for name, node in model.nodes.items():
        for reference in data_inputs(node):
            takers.setdefault(producer(reference), []).append(name)
    inputs = {split_tensor(tensor)[0] for tensor in model.input_tensors()}
    tables = _holds_resource(model)
    stack = [*(taker for name in inputs for taker in takers.get(name, ())), *(n for n in refused if n not in tables)]
    found: set[str] = set()
    while stack:
        name = stack.pop()
        if name in found or name in inputs:
            continue
        found.add(name)
        stack.extend(takers.get(name, ()))
    initialising = _initialising(model)
    return {name: number for number, name in enumerate(name for name in model.nodes if name in found - initialising)}


def _holds_resource(model: ServingModel) -> set[str]:
    """The nodes that only make a handle, as tables do."""
    return {name for name, node in model.nodes.items() if "HashTable" in node.op or node.op == "VarHandleOp"}


def _initialising(model: ServingModel) -> set[str]:
    """What fills tables: it runs once, in every part that has the table."""
    from tpu2gpu.graphs.dataflow import reachable

    return reachable(model.nodes, [model.init_node]) if model.init_node else set()


def _smallest_cut(
    model: ServingModel, costs: Costs, movable: Mapping[str, int], refused: Mapping[str, str]
) -> dict[str, int]:
    count = len(movable)
    source, sink = 2 * count, 2 * count + 1
    network = Network(2 * count + 2)
    for name, at in movable.items():  # `at`: not before the core; `count + at`: after it
        network.add(count + at, at, INFINITE)
        if name in refused:
            network.add(at, count + at, INFINITE)
            continue
        worth = _worth(model.nodes[name], costs)
        network.add(source, at, worth)
        network.add(count + at, sink, worth)
    together = uncut(model)
    for name, at in movable.items():
        # What follows may not be before; the way back costs what one more tensor across a cut costs.
        ends = {producer(reference): reference for reference in reversed(data_inputs(model.nodes[name]))}
        for start, reference in ends.items():
            if start in movable:
                price = INFINITE if (start, name) in together else _price(model.nodes[start], reference, costs)
                for shift in (0, count):
                    network.add(movable[start] + shift, at + shift, INFINITE, price)
    high = network.cut(source, sink)
    return {name: (at in high) + (count + at in high) for name, at in movable.items()}


def _worth(node: Any, costs: Costs) -> int:
    """What it costs to leave a node out of the core; nothing for arithmetic on shapes, which is best left in place."""
    if node.op in _SHAPE_MATH and costs.elements(node.name) <= _SHOWN:
        return 0
    return max(1, costs.operations(node)) * _SCALE


def _price(node: Any, reference: str, costs: Costs) -> int:
    """What it costs to cut a tensor: more for shapes, which do not travel in batches."""
    shape = costs.shapes.get(reference)
    return 1 if shape is None or (shape and shape[0] is None) else 3


# ------------------------------------------------------------------------------------------------ the parts


@attrs.define
class Part:
    """One part of a model.

    Attributes:
        name: `pre`, `core` or `post`.
        model: It as a model whose signature's inputs and outputs go by the names of wires.
        wires_in: The wires that it takes.
        wires_out: The wires that it gives.
        nodes: Its own nodes.
    """

    name: str
    model: ServingModel
    wires_in: dict[str, str]
    wires_out: dict[str, str]
    nodes: list[str]


@attrs.frozen
class Split:
    """A model in parts.

    Attributes:
        parts: In the order in which they run.
        answers: For each output of the signature its wire.
        report: For each part its ops, operations and why; for each cut its tensors and bytes.
        certain: Whether the whole cannot be converted for sure.
    """

    parts: list[Part]
    answers: dict[str, str]
    report: dict[str, Any]
    certain: bool


def name_outputs(model: ServingModel, signature: str) -> None:
    """Gives every output of the signature a node of its own, so that it has a part."""
    from tensorflow.core.framework import node_def_pb2

    for key, info in sorted(model.signatures[signature].outputs.items()):
        node = node_def_pb2.NodeDef(name=model.free_name(f"answer_{key}"), op="Identity")
        name, index = split_tensor(info.name)
        node.input.append(name if index == 0 else f"{name}:{index}")
        node.attr["T"].type = info.dtype
        model.nodes[node.name] = node
        info.name = f"{node.name}:0"


def split(model: ServingModel, signature: str, placement: Placement, costs: Costs) -> Split:
    """Makes a model of each part.

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
        self.answers: dict[str, str] = {}
        for key in sorted(definition.outputs):
            name = key
            while name in definition.inputs or (name != key and name in self._taken):
                name += "_output"
            self._taken.add(name)
            self.answers[key] = name
        self._answer_nodes = {split_tensor(info.name)[0]: self.answers[key] for key, info in definition.outputs.items()}

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
        return Split(parts, self.answers, self._report(parts), certain)

    def _part_of(self, name: str) -> int | None:
        if name in self._placement.parts:
            return self._placement.parts[name]
        # An answer that depends on no input, or is one, is given by the core; strings by TensorFlow.
        if name in self._answer_nodes:
            is_text = self._model.nodes[name].attr["T"].type == DT_STRING
            last = max(self._placement.parts.values())
            return (_POST if last == _POST else _PRE) if is_text else _CORE
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
        if not (_initialising(self._model) - _constants(self._model)) & nodes.keys():
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

    def _report(self, parts: list[Part]) -> dict[str, Any]:
        described: list[dict[str, Any]] = []
        total = 0
        for part in parts:
            count = sum(self._costs.operations(self._model.nodes[name]) for name in part.nodes)
            total += count
            ops = Counter(self._model.nodes[name].op for name in part.nodes)
            refused = {name: self._placement.refused[name] for name in part.nodes if name in self._placement.refused}
            described.append(
                {
                    "name": part.name,
                    "ops": dict(sorted(ops.items())),
                    "operations_per_example": count,
                    "why": self._why(part.name, refused),
                    "refused": summary(self._model, refused),
                }
            )
        core = sum(each["operations_per_example"] for each in described if each["name"] == "core")
        cuts = [
            {"tensor": reference, "wire": wire, "bytes_per_example": self._costs.size_bytes(reference)}
            | {"from": PARTS[self._part_of(producer(reference)) or 0]}
            | {"to": [part.name for part in parts if wire in part.wires_in]}
            for reference, wire in self._wires.items()
        ]
        return {"parts": described, "cuts": cuts, "core_share": core / total if total else 0.0}

    def _why(self, name: str, refused: Mapping[str, str]) -> dict[str, str]:
        """For each op of a part why it is there."""
        if name == "core":
            return {"every op": "the accelerator takes it"}
        need = "it needs the result of" if name == "post" else "it is needed by"
        culprits = ", ".join(sorted({self._model.nodes[each].op for each in refused})) or "the part before it"
        return {
            **{self._model.nodes[each].op: why for each, why in refused.items()},
            "every other op": f"{need} {culprits}, and all operations in the core stay together",
        }


def _constants(model: ServingModel) -> set[str]:
    return {name for name, node in model.nodes.items() if node.op == "Const"}
