"""TensorFlow graphs as programs, so that what lowers StableHLO lowers the `Xla*` ops of older JAX exports too.

A node becomes the operation of StableHLO that it is, or `tf.<its op>` where it says more, or less, than one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tpu2gpu.errors import UnsupportedError
from tpu2gpu.graphs.edit import ancestors, const_value, topological_order
from tpu2gpu.graphs.functions.bodies import ARGUMENT, RESULT, Body
from tpu2gpu.graphs.nodes import OpDefs, data_inputs, join_tensor
from tpu2gpu.graphs.ops import CALLS, CASES, IFS, LOOPS, PASSTHROUGH
from tpu2gpu.graphs.stablehlo.lowering.elementwise import OPS
from tpu2gpu.graphs.stablehlo.program import Block, Operation
from tpu2gpu.tensorbundle import format

IDLE = PASSTHROUGH | {"XlaOptimizationBarrier", "XlaSharding", "XlaSpmdFullToShardShape", "XlaSpmdShardToFullShape"}
"""Ops whose outputs are their inputs."""
_COMPARISONS = {
    "Equal": "EQ", "NotEqual": "NE", "Less": "LT", "LessEqual": "LE", "Greater": "GT", "GreaterEqual": "GE",
}  # fmt: skip
_CONTROL = {**dict.fromkeys((*LOOPS, "XlaWhile"), "while"), **dict.fromkeys((*IFS, "XlaIf"), "if")}
_CONTROL |= dict.fromkeys(CASES, "case")
_REGIONS = {"while": ("cond", "body"), "if": ("then_branch", "else_branch"), "case": ("branches",)}
_REDUCERS = ("reducer", "computation", "update_computation", "comparator")
_MOST_NESTED = 64


def _same_ops() -> dict[str, str]:
    """Return the ops that are an operation of StableHLO."""
    found = {"LogicalAnd": "and", "LogicalOr": "or", "LogicalNot": "not", "Add": "add", "Div": "divide"}
    for name, ops in OPS.items():
        for op in [ops] if isinstance(ops, str) else [ops[kind] for kind in "fi" if kind in ops]:
            found.setdefault(op, name)
    return {**found, "SelectV2": "select"}


_SAME = _same_ops()


class GraphReader:
    """Reads nodes and functions as operations and blocks.

    Args:
        functions: FunctionDefs by name.
        ops: Definitions of ops.
    """

    def __init__(self, functions: Mapping[str, Any], ops: OpDefs) -> None:
        self._functions, self._ops = functions, ops
        self._depth = 0

    def operation(self, node: Any, spell: Callable[[str], str] = str) -> Operation:
        """Read a node.

        Args:
            node: Its NodeDef.
            spell: Returns the name of the value that a tensor is.

        Raises:
            UnsupportedError: It calls a function that cannot be read.
        """
        count = len(self._ops.outputs(node) or ())
        read = Operation(
            f"tf.{node.op}",
            operands=[spell(it) for it in data_inputs(node)],
            results=[spell(join_tensor(node.name, place)) for place in range(count)],
            attributes={"node": node},
        )
        if node.op in _SAME:
            read.name = f"stablehlo.{_SAME[node.op]}"
        elif node.op in _COMPARISONS:
            read.name, read.attributes["words"] = "stablehlo.compare", [_COMPARISONS[node.op]]
        elif node.op == "Const":
            read.name, read.attributes["value"] = "stablehlo.constant", const_value(node)
        elif node.op in _CONTROL:
            self._control(read, node)
        elif node.op in CALLS:
            read.regions = [self.block(node.attr["f"].func.name)]
        elif reducer := next((it for it in _REDUCERS if it in node.attr), ""):
            read.regions = [self.block(node.attr[reducer].func.name)]
        return read

    def _control(self, read: Operation, node: Any) -> None:
        kind = _CONTROL[node.op]
        names = [it.name for attribute in _REGIONS[kind] for it in _called(node.attr[attribute])]
        read.name, read.regions = f"stablehlo.{kind}", [self.block(name) for name in names]

    def block(self, name: str) -> Block:
        """Read a function.

        Raises:
            UnsupportedError: It is not there, takes what no tensor of numbers is, or calls itself.
        """
        function = self._functions.get(name)
        if function is None:
            raise UnsupportedError(f"function {name} is not there")
        if self._depth >= _MOST_NESTED:
            raise UnsupportedError(f"function {name} calls functions {_MOST_NESTED} deep")
        body = Body(function, self._ops)
        for argument in function.signature.input_arg:
            if argument.type not in format.DTYPE_NAMES or argument.type == format.DT_STRING:
                raise UnsupportedError(f"function {name} takes {argument.name}, which holds no numbers")
        same: dict[str, str] = {}

        def spell(tensor: str) -> str:
            return f"{name}/{same.get(tensor, tensor)}"

        self._depth += 1
        operations = []
        needed = ancestors(body.nodes, body.results, control=False)
        for node in topological_order(body.nodes):
            if node.name not in needed or node.op in (ARGUMENT, RESULT):
                continue
            if node.op in IDLE:
                same |= {join_tensor(node.name, place): same.get(it, it) for place, it in enumerate(data_inputs(node))}
            else:
                operations.append(self.operation(node, spell))
        self._depth -= 1
        returned = [spell(body.nodes[it].input[0]) for it in body.results]
        return Block([spell(it) for it in body.arguments], [*operations, Operation("return", operands=returned)])


def _called(value: Any) -> list[Any]:
    return [value.func] if value.WhichOneof("value") == "func" else list(value.list.func)
