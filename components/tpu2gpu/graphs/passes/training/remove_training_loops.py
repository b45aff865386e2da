"""Remove the training loop around a network: old-style loops (Enter, Merge, Switch, Exit) and the TPU's wrapping.

Loops of the network itself stay as they are. Source: TensorFlow's white paper "Implementation of Control Flow", 2017.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from tpu2gpu.graphs.calls import called_function
from tpu2gpu.graphs.edit import add, set_inputs
from tpu2gpu.graphs.functions.training_inlining import LOOP_CARRIED
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, is_control, producer, split_tensor
from tpu2gpu.graphs.ops import ENTERS, EXITS, NEXT_ITERATIONS
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.passes.training.rewriter import Rewriter

# Each core gets one part of what goes in, and computes the same.
_WRAPPERS = ("TPUReplicatedInput", "TPUReplicatedOutput", "TPUPartitionedInput", "TPUPartitionedOutput")

Frame = tuple[str, ...]


def frames_of(needed: Mapping[str, Any]) -> dict[str, Frame]:
    """Return the loops around each node that is in one, outermost first."""
    consumers: dict[str, list[str]] = {}
    for node in needed.values():
        for reference in node.input:
            consumers.setdefault(producer(reference), []).append(node.name)
    frames: dict[str, Frame] = {}
    waiting: deque[tuple[str, Frame]] = deque((name, ()) for name, node in needed.items() if node.op in ENTERS)
    while waiting:
        name, outer = waiting.popleft()
        node = needed[name]
        frame = outer
        if node.op in ENTERS:
            frame = (*outer, node.attr["frame_name"].s.decode(errors="backslashreplace"))
        if len(frames.get(name, ())) >= len(frame):
            continue
        frames[name] = frame
        passed = frame[:-1] if node.op in EXITS else frame
        if passed:
            waiting.extend((consumer, passed) for consumer in consumers.get(name, ()) if node.op not in NEXT_ITERATIONS)
    return frames


class RemoveTrainingLoops(Pass):
    """Remove the training loops that the outputs lie in, and the TPU's wrapping.

    Calls must be inlined. The changes are `tpu_wrappers`, nodes, and `training_loops`, the names of frames.
    """

    PHRASES: ClassVar = {"training_loops": "leaves the training loop"}

    def requires(self, model: ServingModel) -> Iterable[str]:
        """List calls that are not inlined."""
        calls = [node for node in model.nodes.values() if called_function(node) in model.functions]
        return [f"{node.name} ({node.op}): calls a function that is not inlined" for node in calls]

    def run(self, model: ServingModel) -> Changes:
        """Make consumers take what went into a loop or a wrapper in place of what came out."""
        with Rewriter(model) as graph:
            return _unwrap(graph)


def _unwrap(graph: Rewriter) -> Changes:
    tensors = graph.outputs()
    needed = _needed(graph, tensors)
    frames = frames_of(needed)
    training = {frame for tensor in tensors for frame in frames.get(split_tensor(tensor)[0], ())}
    changes: dict[str, list[str]] = {}
    for node in needed.values():
        if node.op in _WRAPPERS:
            changes.setdefault("tpu_wrappers", []).append(node.name)
            for index in range(max(1, node.attr["num_replicas"].i)):
                graph.replace(f"{node.name}:{index}", data_inputs(node)[0])
            continue
        frame = frames.get(node.name, ())
        if frame and frame[-1] not in training:
            continue  # a loop of the network: what ties its constants to it stays
        inputs = data_inputs(node)
        set_inputs(node, inputs)
        if not frame:
            continue
        if node.op in (*ENTERS, *EXITS, *NEXT_ITERATIONS):
            graph.replace(node.name, node.input[0])
        elif node.op == "Switch" and graph.nodes[producer(node.input[1])].op == "LoopCond":
            graph.replace(node.name, node.input[0])
            graph.replace(f"{node.name}:1", node.input[0])
        elif node.op == "Merge" and any(graph.nodes[producer(it)].op in NEXT_ITERATIONS for it in node.input):
            _enter(graph, node.name)
    if training:
        changes["training_loops"] = [", ".join(sorted(training))]
    return changes


def _needed(graph: Rewriter, tensors: Iterable[str]) -> dict[str, Any]:
    """Return the nodes that tensors need, by control dependencies too."""
    needed: dict[str, Any] = {}
    waiting = [graph.node(tensor).name for tensor in tensors]
    while waiting:
        name = waiting.pop()
        if name not in needed and name in graph.nodes:
            needed[name] = graph.nodes[name]
            waiting += [graph.resolve(it)[0].name for it in data_inputs(needed[name])]
            waiting += [it[1:] for it in needed[name].input if is_control(it)]
    return needed


def _enter(graph: Rewriter, merge: str) -> None:
    """Replace a loop's value that no round changes by the one that went in; mark any other."""
    node = graph.nodes[merge]
    back = next(it for it in node.input if graph.nodes[producer(it)].op in NEXT_ITERATIONS)
    start = next(it for it in node.input if it != back)
    source = graph.nodes[producer(back)]
    while source.op in ("NextIteration", "RefNextIteration", "Identity", "Switch") and source.input:
        source = graph.nodes[producer(source.input[0])]
    if source.name == merge:
        graph.replace(merge, start)
        return
    graph.replace(merge, add(graph.nodes, f"{merge}/carried", LOOP_CARRIED, [start], T=node.attr["T"].type).name)
