"""Loops and branches: functions that an op calls, or the one branch that is known to be taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tpu2gpu.graphs.nodes import split_tensor
from tpu2gpu.graphs.stablehlo.graph_builder import GraphBuilder, output
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering, NotLoweredError
from tpu2gpu.graphs.stablehlo.lowering.registry import lowers
from tpu2gpu.graphs.stablehlo.program import Block, Operation, TensorType, element_of
from tpu2gpu.graphs.stablehlo.values import Value, of_tensor
from tpu2gpu.tensorbundle import format

MAX_ROUNDS = 64  # of a loop that is rolled out
_MAX_OPERATIONS = 8192
_COUNT = of_tensor("", np.dtype(np.int32), ())


@lowers("case")
def _case(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    count = len(operation.regions)
    index, *taken = operands
    if index.array is not None:
        place = int(index.array.reshape(-1)[0])
        return low.run(operation.regions[place if 0 <= place < count else count - 1], taken)
    return _branches(low, operation, "StatelessCase", low.graph.cast_to_int32(low.graph.whole(index)), taken)


@lowers("if")
def _if(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    condition, *taken = operands
    if condition.array is not None:
        return low.run(operation.regions[0 if condition.array.all() else 1], taken)
    return _branches(low, operation, "StatelessIf", low.graph.whole(condition), taken)


def _branches(low: Lowering, operation: Operation, op: str, chosen: str, taken: Sequence[Value]) -> list[Value]:
    """Make functions of branches; those of StableHLO take all from around, those of TensorFlow name what they take."""
    bodies = []
    for region in operation.regions:
        inner = low.in_function()
        bodies.append((inner, inner.run(region, taken)))
    refs = [[inner.graph.local(inner.graph.whole(it)) for it in results] for inner, results in bodies]
    captured = _captured([inner for inner, _ in bodies])
    names = [
        _function(low, inner.graph, "branch", [], captured, outputs)
        for (inner, _), outputs in zip(bodies, refs, strict=True)
    ]
    results = bodies[0][1]
    attributes: dict[str, Any] = {"Tout": [it.dtype for it in results], "output_shapes": _shapes(results)}
    if op == "StatelessIf":
        attributes |= {"then_branch": _called(names[0]), "else_branch": _called(names[1])}
    else:
        attributes["branches"] = _called(*names, as_list=True)
    ref = low.graph.emit(op, chosen, *captured, **attributes)
    types = operation.types or [_common_type([each[place] for _, each in bodies]) for place in range(len(results))]
    return [low.result(output(ref, place), type_, [None] * len(type_.sizes)) for place, type_ in enumerate(types)]


def _common_type(values: Sequence[Value]) -> TensorType:
    """Return the type of what one of several branches returns.

    Raises:
        NotLoweredError: They return values that differ in rank.
    """
    if len({it.rank for it in values}) != 1:
        raise NotLoweredError("branches: of results that differ in rank")
    sizes = [{it.sizes[axis] for it in values} for axis in range(values[0].rank)]
    fixed = [next(iter(each)) if len(each) == 1 else None for each in sizes]
    return TensorType(tuple(it if isinstance(it, int) else None for it in fixed), element_of(values[0].dtype))


@lowers("while")
def _while(low: Lowering, operation: Operation, operands: list[Value]) -> list[Value]:
    """Lower a loop to what converters take for one of TensorFlow 2: a counter and how many rounds there are come first.

    What no round changes is taken from around it. A short loop whose rounds are known is rolled out: engines compute
    straight on where loops make them wait.
    """
    condition, body = operation.regions
    rounds = _rounds(low, operation, operands)
    if 0 <= rounds <= MAX_ROUNDS and rounds * len(body.operations) <= _MAX_OPERATIONS:
        values = operands
        for _ in range(rounds):
            values = low.run(body, values)
        return values
    returned = body.operations[-1].operands
    carried = [place for place, name in enumerate(body.arguments) if returned[place] != name]
    graph, test_low, body_low = low.graph, low.in_function(), low.in_function()
    starts = [graph.whole(operands[place]) for place in carried]
    test_arguments, results = _run(test_low, condition, operands, carried)
    truth = test_low.graph.local(test_low.graph.whole(results[0]))
    body_arguments, new = _run(body_low, body, operands, carried)
    inner = body_low.graph
    outputs = [inner.local(inner.whole(new[place])) for place in carried]
    outputs = [inner.emit("AddV2", body_arguments[0], inner.constant(np.int32(1))), body_arguments[1], *outputs]
    captured = _captured([test_low, body_low])
    kept = [inner.argument(graph.dtype_of(ref), ref) for ref in captured]
    ref = graph.emit(
        "StatelessWhile", graph.constant(np.int32(0)), graph.constant(np.int32(rounds)),
        *starts, *captured,
        cond=_called(_function(low, test_low.graph, "condition", test_arguments, captured, [truth])),
        body=_called(_function(low, inner, "body", body_arguments, captured, [*outputs, *kept])),
        output_shapes=_shapes([_COUNT, _COUNT, *(operands[place] for place in carried)], unknown=len(captured)),
    )  # fmt: skip
    found = list(operands)
    for place, axis in enumerate(carried):
        found[axis] = of_tensor(output(ref, place + 2), operands[axis].dtype, operands[axis].sizes)
    return found


def _rounds(low: Lowering, operation: Operation, operands: list[Value]) -> int:
    """Return how many rounds a loop makes that counts from a known number to another one; -1 for any other."""
    condition, body = operation.regions
    compare = next((it for it in condition.operations if it.name == "stablehlo.compare"), None)
    known = {it.results[0]: it.attributes["value"] for block in operation.regions for it in block.operations
             if it.name == "stablehlo.constant"}  # fmt: skip

    returned = body.operations[-1].operands

    def number(name: str) -> int | None:
        array = low.values[name].array if name in low.values else known.get(name)
        for block in operation.regions:
            if name in block.arguments and returned[at := block.arguments.index(name)] == body.arguments[at]:
                array = operands[at].array
        return int(array.reshape(-1)[0]) if array is not None and array.size == 1 else None

    if compare is None or compare.words[0] != "LT" or compare.operands[0] not in condition.arguments:
        return -1
    place = condition.arguments.index(compare.operands[0])
    step = next((it for it in body.operations if it.results == [returned[place]]), None)
    start, end = operands[place].array, number(compare.operands[1])
    if step is None or step.name != "stablehlo.add" or start is None or end is None:
        return -1
    counts = step.operands[0] == body.arguments[place] and number(step.operands[1]) == 1
    decides = condition.operations[-1].operands == compare.results
    return max(0, end - int(start)) if counts and decides else -1


def _run(
    inner: Lowering, block: Block, operands: Sequence[Value], carried: Sequence[int]
) -> tuple[list[str], list[Value]]:
    """Lower a body whose carried values are arguments; what no round changes is taken from around it.

    Returns:
        The arguments, the counter and the number of rounds first, and what the body returns.
    """
    arguments, values = [inner.graph.argument(_COUNT.dtype) for _ in range(2)], list(operands)
    for place in carried:
        name = inner.graph.argument(operands[place].dtype)
        arguments.append(name)
        values[place] = of_tensor(name, operands[place].dtype, operands[place].sizes)
    return arguments, inner.run(block, values)


def _captured(bodies: Sequence[Lowering]) -> list[str]:
    """Return the tensors from around that any of the bodies takes."""
    return list(dict.fromkeys(ref for inner in bodies for ref in inner.graph.arguments))


def _function(
    low: Lowering, body: GraphBuilder, name: str, arguments: Sequence[str], captured: Sequence[str],
    outputs: Sequence[str],
) -> str:  # fmt: skip
    """Make the function of a body: its own arguments, then all that any body takes from around."""
    from tensorflow.core.framework import function_pb2

    taken = [*arguments, *(body.argument(low.graph.dtype_of(ref), ref) for ref in captured)]
    function = function_pb2.FunctionDef()
    function.signature.name = low.function_name(name)
    for argument in taken:
        function.signature.input_arg.add(name=argument, type=format.DTYPE_ENUMS[body.dtypes[argument].name])
    for place, ref in enumerate(outputs):
        result = f"result_{place}"
        function.signature.output_arg.add(name=result, type=format.DTYPE_ENUMS[body.dtype_of(ref).name])
        function.ret[result] = _inside(ref, body)
    for node in body.nodes.values():
        copied = function.node_def.add()
        copied.CopyFrom(node)
        del copied.input[:]
        copied.input.extend(_inside(ref, body) for ref in node.input)
    low.functions[function.signature.name] = function
    return str(function.signature.name)


def _inside(ref: str, body: GraphBuilder) -> str:
    """Return what a function's nodes call a tensor: `node:output:0`, or an argument's name."""
    name, index = split_tensor(ref)
    node = body.nodes.get(name)
    if node is None:
        return ref
    definition: Any = body.ops.find(node.op)
    for argument in definition.output_arg:
        count = len(node.attr[argument.type_list_attr].list.type) if argument.type_list_attr else 1
        count = node.attr[argument.number_attr].i if argument.number_attr else count
        if index < count:
            return f"{name}:{argument.name}:{index}"
        index -= count
    raise AssertionError(ref)


def _called(*names: str, as_list: bool = False) -> Any:
    from tensorflow.core.framework import attr_value_pb2

    value = attr_value_pb2.AttrValue()
    for name in names:
        if as_list:
            value.list.func.add(name=name)
        else:
            value.func.name = name
    return value


def _shapes(values: Sequence[Value], *, unknown: int = 0) -> Any:
    from tensorflow.core.framework import attr_value_pb2

    attribute = attr_value_pb2.AttrValue()
    for value in values:
        shape = attribute.list.shape.add()
        for size in value.sizes:
            shape.dim.add(size=size if isinstance(size, int) else -1)
    for _ in range(unknown):
        attribute.list.shape.add(unknown_rank=True)
    return attribute
