"""Nodes of a graph that ONNX Runtime, or an engine, does not take, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tpu2gpu.graphs.calls import function_names
from tpu2gpu.graphs.edit import consumers, descendants, walk
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import OpDefs, is_control, producer, split_tensor
from tpu2gpu.graphs.ops import CASES, DT_RESOURCE, DT_STRING, DT_VARIANT, IFS, LOOPS
from tpu2gpu.graphs.stablehlo.artifact import XLA_CALL_MODULE
from tpu2gpu.trt_converter.onnx.deviations import deviation

UNKNOWN = "tf2onnx does not know it"
"""The reason that is a guess: tf2onnx's optimisers may take such an operation out of the graph."""

SUPPRESSION = frozenset([*(f"NonMaxSuppressionV{n}" for n in (2, 3, 4, 5)), "NonMaxSuppressionWithOverlaps"])
SUPPRESSION |= {"NonMaxSuppression", "CombinedNonMaxSuppression"}
_COUNTED_OUTPUTS = frozenset(["Where", "Unique", "UniqueV2", "BooleanMask", "DynamicPartition", "RaggedRange"])
# tf2onnx's rewriters know these, though its table of operations does not hold them; the rest computes nothing.
_REWRITTEN = {"Enter", "Switch", "Merge", "Exit", "LoopCond", "NextIteration"}
_REWRITTEN |= {"TensorArrayV3", "TensorArrayReadV3", "TensorArrayWriteV3", "TensorArrayScatterV3"}
_REWRITTEN |= {"TensorArrayGatherV3", "TensorArraySizeV3", "EmptyTensorList", "ReadVariableOp", "VarHandleOp"}
_REWRITTEN |= {"Const", "NoOp", "Assert", "Placeholder", "PlaceholderWithDefault", "ResourceGather", "VariableShape"}
_SHAPES = frozenset(["Shape", "ShapeN", "Size", "Rank", "TensorListLength"])
_IMAGE_DECODERS = frozenset(["DecodeJpeg", "DecodePng", "DecodeImage", "DecodeBmp", "DecodeAndCropJpeg", "DecodeGif"])


def why_beside(*, for_engine: bool, nms: str) -> str:
    """Return why non-max suppression stays out of the core; empty where it may be in it.

    Args:
        for_engine: Whether an engine shall run the core, or ONNX Runtime.
        nms: What `--nms` says.
    """
    if nms == "beside":
        return "non-max suppression, which --nms beside keeps out of the core"
    return "non-max suppression, which engines do not build" * (for_engine and nms == "auto")


def unsupported_nodes(model: ServingModel, *, for_engine: bool, nms: str = "auto") -> dict[str, str]:
    """Return the nodes that ONNX, or an engine, does not take, and why.

    Args:
        model: A flat model.
        for_engine: Count also what ONNX Runtime takes and engines do not: non-max suppression, outputs whose size
            depends on values, control flow that depends on them.
        nms: Where non-max suppression shall run, as `--nms` says.
    """
    known = _known_operations()
    judged: dict[str, str] = {}
    unsupported = {}
    depends = _depends_on_values(model) if for_engine else set()
    refused = dict.fromkeys(_COUNTED_OUTPUTS, "the size of its output depends on values") if for_engine else {}
    if beside := why_beside(for_engine=for_engine, nms=nms):
        refused.update(dict.fromkeys(SUPPRESSION, beside))
    for name, node in model.nodes.items():
        why = _why(node, model, known, judged, refused)
        if not why and for_engine and node.op in (*IFS, *CASES) and producer(node.input[0]) in depends:
            why = "which branch is taken depends on the input's values"
        if not why and for_engine and node.op in LOOPS and _counts_by_values(node, model, depends):
            why = "how often the loop runs depends on the input's values"
        if why:
            unsupported[name] = why
    return unsupported


def inseparable(model: ServingModel) -> set[tuple[str, str]]:
    """Return the pairs of producer and consumer that must stay in one part.

    Resources and variants (lists of tensors) live inside one session; a loop of TensorFlow 1 is one thing.
    """
    pairs = set()
    inside = _inside_loops(model)
    for name, node in model.nodes.items():
        for reference in node.input:
            source = producer(reference)
            handle = not is_control(reference) and _dtype(model, reference) in (DT_RESOURCE, DT_VARIANT, None)
            if handle or (source in inside and name in inside):
                pairs.add((source, name))
    return pairs


def _known_operations() -> frozenset[str]:
    import tf2onnx.tfonnx  # fills the table
    from tf2onnx.handler import tf_op

    from tpu2gpu.trt_converter.onnx.op_handlers import register_handlers

    assert tf2onnx.tfonnx
    register_handlers()
    return frozenset(_REWRITTEN).union(*(table for tables in tf_op.get_opsets().values() for table in tables))


def _why(
    node: Any, model: ServingModel, known: frozenset[str], judged: dict[str, str], refused: Mapping[str, str]
) -> str:
    """Return why an operation is not taken, wherever it stands; empty where it is."""
    why = _why_of_op(node.op, known, refused)
    if not why and node.op not in ("Const", "Placeholder", "PlaceholderWithDefault", "Assert", "NoOp"):
        why = _why_of_types(node, model.ops) or deviation(node)
    if why:
        return why
    for name in function_names(node):
        if name in model.functions:
            if name not in judged:
                judged[name] = ""  # a function that calls itself
                judged[name] = _why_of_body(model.functions[name], model, known, judged, refused)
            if judged[name]:
                return judged[name]
    return ""


def _why_of_body(
    function: Any, model: ServingModel, known: frozenset[str], judged: dict[str, str], refused: Mapping[str, str]
) -> str:
    for inner in function.node_def:
        if why := _why(inner, model, known, judged, refused):
            return f"inside it: {inner.op}: {why}"
    return ""


def _why_of_op(op: str, known: frozenset[str], refused: Mapping[str, str]) -> str:
    if op in _IMAGE_DECODERS:
        return "decodes image files"
    if "HashTable" in op or op.startswith("LookupTable"):
        return "a table of keys and values"
    if op in refused:
        return refused[op]
    if op == XLA_CALL_MODULE:
        return "a StableHLO module, which `tpu2gpu import` turns into nodes"
    return "" if op in known else UNKNOWN


def _why_of_types(node: Any, ops: OpDefs) -> str:
    slots = [*(ops.inputs(node) or ()), *(ops.outputs(node) or ())]
    return "takes or gives strings" if any(slot.type_of(node) == DT_STRING for slot in slots) else ""


def _dtype(model: ServingModel, reference: str) -> int | None:
    """Return the type of a tensor, None where the op is unknown."""
    name, index = split_tensor(reference)
    slots = model.ops.outputs(model.nodes[name])
    return slots[index].type_of(model.nodes[name]) if slots is not None and index < len(slots) else None


def _inside_loops(model: ServingModel) -> set[str]:
    """Return the nodes of TensorFlow 1's loops and branches, Enter to Exit."""
    followers = consumers(model.nodes, control=True)

    def onward(name: str) -> list[str]:
        ends = model.nodes[name].op == "Exit" or _closes(model.nodes[name])
        return [] if ends else [node.name for node, _ in followers[name]]

    return set(walk((name for name, node in model.nodes.items() if node.op in ("Enter", "Switch")), onward))


def _closes(node: Any) -> bool:
    """Tell whether a node joins the branches of an old-style condition, rather than the rounds of a loop."""
    return node.op == "Merge" and not any("NextIteration" in reference for reference in node.input)


def _depends_on_values(model: ServingModel) -> set[str]:
    """Return the nodes whose output depends on the inputs' values, and not on their shapes alone."""
    inputs = [split_tensor(tensor)[0] for tensor in model.input_tensors()]
    starts = [name for name in inputs if model.nodes[name].op not in _SHAPES]
    return descendants(consumers(model.nodes), starts, lambda node: node.op not in _SHAPES)


def _counts_by_values(node: Any, model: ServingModel, depends: set[str]) -> bool:
    """Tell whether the number of a loop's rounds depends on the inputs' values."""
    condition, body = (model.functions.get(node.attr[name].func.name) for name in ("cond", "body"))
    if condition is None or body is None:
        return True
    needed = _arguments_of(condition, condition.signature.output_arg)
    while True:
        outputs = [body.signature.output_arg[place] for place in needed]
        more = needed | _arguments_of(body, outputs)
        if more == needed:
            break
        needed = more
    return any(producer(node.input[place]) in depends for place in needed)


def _arguments_of(function: Any, outputs: Iterable[Any]) -> set[int]:
    """Return the arguments of a function, by position, that some outputs' values depend on."""
    nodes: Mapping[str, Any] = {node.name: node for node in function.node_def}
    places = {argument.name: place for place, argument in enumerate(function.signature.input_arg)}

    def onward(name: str) -> list[str]:
        node = nodes.get(name)
        return [] if node is None or node.op in _SHAPES else [_name_of(each) for each in node.input]

    needed = walk((_name_of(function.ret[each.name]) for each in outputs), onward)
    return {places[name] for name in needed if name in places}


def _name_of(reference: str) -> str:
    return reference.removeprefix("^").partition(":")[0]
