"""Put TensorFlow nodes in the place of an `XlaCallModule`."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from tpu2gpu.errors import GraphError, UnsupportedError
from tpu2gpu.graphs.edit import free_name
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs
from tpu2gpu.graphs.stablehlo.artifact import ModuleHead, read_head
from tpu2gpu.graphs.stablehlo.graph_builder import GraphBuilder
from tpu2gpu.graphs.stablehlo.lowering.lowering import Lowering, check_known
from tpu2gpu.graphs.stablehlo.program import Function, TensorType
from tpu2gpu.graphs.stablehlo.text import parse_module
from tpu2gpu.graphs.stablehlo.values import Value, known, of_tensor
from tpu2gpu.tensorbundle import format

_PLATFORM_INDEX = "_platform_index"
_PREFERRED = ("CUDA", "ROCM", "CPU")


@attrs.frozen
class Lowered:
    """What came of a module.

    Attributes:
        nodes: The nodes.
        functions: The functions that they call.
        outputs: For each output of the op the tensor that it is now.
        platform: The platform whose code was taken, where there were several.
    """

    nodes: dict[str, Any]
    functions: dict[str, Any]
    outputs: list[str]
    platform: str


def lower_module(model: ServingModel, node: Any, text: str) -> Lowered:
    """Lower a module; the model is left as it is.

    Args:
        model: The model that the node is of.
        node: The NodeDef of an `XlaCallModule`.
        text: Its module.

    Raises:
        UnsupportedError: It holds what has no counterpart.
        GraphError: Node and module do not fit.
    """
    program, head = parse_module(text), read_head(node)
    if "main" not in program:
        raise GraphError(f"{head}: its module has no function main")
    check_known(program)
    taken = {*model.nodes, *model.functions}
    graph = GraphBuilder(f"{node.name}/", taken, model.ops)
    functions: dict[str, Any] = {}

    def function_name(wanted: str) -> str:
        name = free_name(ChainMap(functions, model.functions), f"{node.name.replace('/', '_')}_{wanted}")
        functions[name] = None
        return name

    low = Lowering(program, graph, function_name, functions)
    platform = _platform(head)
    arguments = _arguments(graph, node, program["main"], head, platform)
    results = low.run(program["main"].body, arguments)
    outputs = [graph.emit("Identity", graph.whole(it), name="output") for it in results]
    return Lowered(graph.nodes, low.functions, outputs, platform if len(head.platforms) > 1 else "")


def _platform(head: ModuleHead) -> str:
    return next((name for name in _PREFERRED if name in head.platforms), next(iter(head.platforms), ""))


def _arguments(graph: GraphBuilder, node: Any, main: Function, head: ModuleHead, platform: str) -> list[Value]:
    """Return the values of the module's arguments: the platform's index, sizes, and what the op takes."""
    inputs = data_inputs(node)
    given = list(inputs)
    sizes = [_axis(spec, inputs, head) for spec in node.attr["dim_args_spec"].list.s]
    dtypes = [format.numpy_dtype(it) for it in node.attr["Tin"].list.type]
    extra = len(main.types) - len(given)
    found: list[Value] = []
    for place, (type_, about) in enumerate(zip(main.types, main.argument_attributes, strict=True)):
        is_platform = about.get("jax.global_constant") == _PLATFORM_INDEX
        if place < extra and (is_platform or (len(head.platforms) > 1 and place == 0 and not type_.sizes)):
            found.append(known(np.array(head.platforms.index(platform), type_.dtype)))
        elif place < extra and sizes:
            source, axis = sizes.pop(0)
            ref = inputs[source]
            graph.dtypes[ref] = dtypes[source]
            found.append(_size(graph, ref, axis, type_))
        elif given:
            ref = given.pop(0)
            dtype = dtypes[len(inputs) - len(given) - 1]
            if dtype != type_.dtype:
                raise GraphError(f"{head}: takes {type_.dtype.name} where {ref} is {dtype.name}")
            graph.dtypes[ref] = dtype
            found.append(of_tensor(ref, type_.dtype, graph.sizes_of(ref, type_.sizes)))
    if given or len(found) != len(main.types):
        raise GraphError(f"{head}: takes {len(main.types)} values, and is given {len(inputs)}")
    return found


def _axis(spec: bytes, inputs: Sequence[str], head: ModuleHead) -> tuple[int, int]:
    """Read `INPUT.AXIS`, of which a size comes."""
    match = re.fullmatch(rb"(\d{1,9})\.(\d{1,9})", spec)
    if match is None or int(match[1]) >= len(inputs):
        raise GraphError(f"{head}: takes a size of {spec!r}, and has {len(inputs)} inputs")
    return int(match[1]), int(match[2])


def _size(graph: GraphBuilder, ref: str, axis: int, type_: TensorType) -> Value:
    from tpu2gpu.graphs.stablehlo.values import of_sizes

    return of_sizes((graph.size_of(ref, axis),), type_.dtype, scalar=True)


def check_callbacks(nodes: Sequence[Any]) -> None:
    """Check that modules call no functions of the graph around them.

    Raises:
        UnsupportedError: Some do, as `call_tf` makes them.
    """
    calling = [f"{node.name}: {len(node.attr['function_list'].list.func)}" for node in nodes
               if node.attr["function_list"].list.func]  # fmt: skip
    if calling:
        raise UnsupportedError("StableHLO modules that call functions of TensorFlow", details=calling)
