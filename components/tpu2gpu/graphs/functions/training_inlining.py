"""Inline training loops and calls whole, so that forward pass and updates of variables lie in one flat graph.

Unlike `SignatureInliner`, which copies what a signature needs, this keeps everything: a batch norm's moving statistics
are found from the ops that update them. Loops that belong to the network itself (an RNN's, say) stay.
"""

from __future__ import annotations

import copy
from collections import ChainMap
from collections.abc import Mapping
from typing import Any

from tpu2gpu.errors import GraphError
from tpu2gpu.graphs.calls import body_names, called_function, needed_functions, output_index
from tpu2gpu.graphs.edit import add, free_name, resolve, set_inputs
from tpu2gpu.graphs.nodes import OpDefs, data_inputs, is_control, join_tensor, split_tensor
from tpu2gpu.graphs.ops import LOOPS, TPU_OPS, WRITES

# Stands where a body reads what the round before has left; none may be needed by an output.
LOOP_CARRIED = "LoopCarried"


class TrainingInliner:
    """A graph that is being made flat.

    Args:
        nodes: Its NodeDefs by name; changed in place.
        functions: The FunctionDefs that they call, by name.
        ops: Definitions of its ops.
    """

    def __init__(self, nodes: dict[str, Any], functions: Mapping[str, Any], ops: OpDefs) -> None:
        self.nodes, self.functions, self._ops = nodes, functions, ops
        self._replaced: dict[str, str] = {}
        self._is_training: dict[str, bool] = {}
        self._in_bodies: dict[str, Any] = dict.fromkeys(body_names(nodes.values(), functions))

    def inline_all(self) -> None:
        """Inline every call and every training loop."""
        self._inline([name for name, node in self.nodes.items() if self._body(node)])

    def inline_branch(self, node: Any, taken: bool) -> None:
        """Put one branch of an If in its place."""
        function = self.functions[node.attr["then_branch" if taken else "else_branch"].func.name]
        self._inline(self._expand(node, function, data_inputs(node)[1:]))

    def _inline(self, waiting: list[str]) -> None:
        while waiting:
            node = self.nodes[waiting.pop()]
            function = self.functions[self._body(node)]
            waiting += self._expand(node, function, data_inputs(node))
        if self._replaced:
            self._settle()

    def _body(self, node: Any) -> str:
        """Return the function to put in a node's place, or nothing."""
        if node.op == "TPUPartitionedCall":
            name = str(node.attr["f"].func.name)
        elif node.op in ("TPUReplicate", "_TPUReplicate"):
            name = str(node.attr["computation"].func.name)
        elif node.op in LOOPS and self._trains(node.attr["body"].func.name):
            name = str(node.attr["body"].func.name)
        else:
            name = called_function(node)
        return name if name in self.functions else ""

    def _trains(self, name: str) -> bool:
        """Tell whether a body is a training loop's: it feeds on the infeed, or writes to variables."""
        if name not in self._is_training:
            inner = list(self.functions[name].node_def) if name in self.functions else []
            for body in needed_functions(inner, self.functions).values():
                inner += body.node_def
            self._is_training[name] = any(TPU_OPS.fullmatch(node.op) or WRITES.fullmatch(node.op) for node in inner)
        return self._is_training[name]

    def _expand(self, call: Any, function: Any, inputs: list[str]) -> list[str]:
        """Put a function's nodes in a call's place, and return those that are to be inlined in turn."""
        if len(inputs) < len(function.signature.input_arg):
            raise GraphError(f"node {call.name}: gives {len(inputs)} of {len(function.signature.input_arg)} arguments")
        given = {argument.name: inputs[i] for i, argument in enumerate(function.signature.input_arg)}
        if call.op in LOOPS:
            given = self._loop_arguments(call, function, given)
        names = {node.name: self._free_name(node.name) for node in function.node_def}
        inner = {node.name: node for node in function.node_def}
        made = []
        for body in function.node_def:
            node = copy.deepcopy(body)
            node.name = names[body.name]
            translated = [self._translate(reference, given, names, inner) for reference in data_inputs(body)]
            control = [names[it[1:]] for it in body.input if is_control(it) and it[1:] in names]
            set_inputs(node, [*translated, *(f"^{name}" for name in control)])
            self.nodes[node.name] = node
            if self._body(node):
                made.append(node.name)
        for position, output in enumerate(function.signature.output_arg):
            source = self._translate(function.ret[output.name], given, names, inner)
            self._replaced[join_tensor(call.name, position)] = source
        del self.nodes[call.name]
        return made

    def _free_name(self, wanted: str) -> str:
        """Return a name that no other node has, those in bodies of control flow among them."""
        return free_name(ChainMap(self.nodes, self._in_bodies) if wanted in self._in_bodies else self.nodes, wanted)

    def _loop_arguments(self, loop: Any, function: Any, given: dict[str, str]) -> dict[str, str]:
        """Return what the body reads: values that no round changes as they are, marks in place of the others."""
        inner = {node.name: node for node in function.node_def}
        arguments = {}
        for argument, output in zip(function.signature.input_arg, function.signature.output_arg, strict=True):
            source = function.ret[output.name]
            while source.split(":")[0] in inner and inner[source.split(":")[0]].op == "Identity":
                source = inner[source.split(":")[0]].input[0]
            if source == argument.name:
                arguments[argument.name] = given[argument.name]
                continue
            wanted, source = f"{loop.name}/{argument.name}", given[argument.name]
            arguments[argument.name] = add(self.nodes, wanted, LOOP_CARRIED, [source], T=argument.type).name
        return arguments

    def _translate(
        self, reference: str, given: Mapping[str, str], names: Mapping[str, str], inner: Mapping[str, Any]
    ) -> str:
        """Return the flat graph's `node:3` for a body's `node:argument:2`."""
        parts = reference.split(":")
        if parts[0] in given:
            return given[parts[0]]
        if parts[0] not in inner:
            raise GraphError(f"a function body has no node {parts[0]}")
        node, index = inner[parts[0]], 0
        if len(parts) == 3:
            index = output_index(node, parts[1], int(parts[2]), self.functions.get(self._body(node)), self._ops)
        return join_tensor(names[parts[0]], index)

    def _settle(self) -> None:
        """Lead all that took an inlined node's outputs to their new sources."""
        for node in self.nodes.values():
            lost = []
            for position, reference in enumerate(node.input):
                if is_control(reference):
                    if reference[1:] not in self.nodes:
                        lost.append(position)
                else:
                    node.input[position] = resolve(self._replaced, reference)
            for position in reversed(lost):
                del node.input[position]

    def current(self, tensor: str) -> str:
        """Return where a tensor of the graph as it was is now."""
        return resolve(self._replaced, join_tensor(*split_tensor(tensor)))
