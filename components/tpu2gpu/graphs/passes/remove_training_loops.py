"""Takes away the training loop around a network: old-style loops (Enter, Merge, Switch, Exit) and the TPU's wrapping.

Loops of the network itself stay as they are. Source: TensorFlow's white paper "Implementation of Control Flow", 2017.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from tpu2gpu.graphs.functions.training_inlining import LOOP_CARRIED
from tpu2gpu.graphs.nodes import data_inputs, is_control, producer, split_tensor
from tpu2gpu.graphs.passes.rewriter import TrainingGraph

_ENTERS = ("Enter", "RefEnter")
_EXITS = ("Exit", "RefExit")
_BACK = ("NextIteration", "RefNextIteration")
# Each core gets one part of what goes in, and computes the same.
_WRAPPERS = ("TPUReplicatedInput", "TPUReplicatedOutput", "TPUPartitionedInput", "TPUPartitionedOutput")

Frame = tuple[str, ...]


def frames_of(needed: Mapping[str, Any]) -> dict[str, Frame]:
    """For each of some nodes that is in a loop: the loops around it, outermost first."""
    followers: dict[str, list[str]] = {}
    for node in needed.values():
        for reference in node.input:
            followers.setdefault(producer(reference), []).append(node.name)
    frames: dict[str, Frame] = {}
    waiting: deque[tuple[str, Frame]] = deque((name, ()) for name, node in needed.items() if node.op in _ENTERS)
    while waiting:
        name, outer = waiting.popleft()
        node = needed[name]
        frame = outer
        if node.op in _ENTERS:
            frame = (*outer, node.attr["frame_name"].s.decode())
        if len(frames.get(name, ())) >= len(frame):
            continue
        frames[name] = frame
        passed = frame[:-1] if node.op in _EXITS else frame
        if passed:
            waiting.extend((follower, passed) for follower in followers.get(name, ()) if node.op not in _BACK)
    return frames


def unwrap(graph: TrainingGraph, tensors: Iterable[str]) -> None:
    """Leads tensors past the training loops that the outputs lie in, and past the TPU's wrapping.

    Args:
        graph: The graph.
        tensors: The outputs.
    """
    tensors = list(tensors)
    needed = _needed(graph, tensors)
    frames = frames_of(needed)
    training = {frame for tensor in tensors for frame in frames.get(split_tensor(tensor)[0], ())}
    for node in needed.values():
        if node.op in _WRAPPERS:
            graph.note("tpu_wrappers", node.name)
            for index in range(max(1, node.attr["num_replicas"].i)):
                graph.replace(f"{node.name}:{index}", data_inputs(node)[0])
            continue
        frame = frames.get(node.name, ())
        if frame and frame[-1] not in training:
            continue  # a loop of the network: what ties its constants to it stays
        inputs = data_inputs(node)
        del node.input[:]
        node.input.extend(inputs)
        if not frame:
            continue
        if node.op in (*_ENTERS, *_EXITS, *_BACK):
            graph.replace(node.name, node.input[0])
        elif node.op == "Switch" and graph.nodes[producer(node.input[1])].op == "LoopCond":
            graph.replace(node.name, node.input[0])
            graph.replace(f"{node.name}:1", node.input[0])
        elif node.op == "Merge" and any(graph.nodes[producer(it)].op in _BACK for it in node.input):
            _enter(graph, node.name)
    if training:
        graph.note("training_loops", ", ".join(sorted(training)))


def _needed(graph: TrainingGraph, tensors: Iterable[str]) -> dict[str, Any]:
    """The nodes that tensors need, by control dependencies too."""
    needed: dict[str, Any] = {}
    waiting = [graph.node(tensor).name for tensor in tensors]
    while waiting:
        name = waiting.pop()
        if name not in needed and name in graph.nodes:
            needed[name] = graph.nodes[name]
            waiting += [graph.at(it)[0].name for it in data_inputs(needed[name])]
            waiting += [it[1:] for it in needed[name].input if is_control(it)]
    return needed


def _enter(graph: TrainingGraph, merge: str) -> None:
    """A value that no round changes is the one that went in; another one is marked."""
    node = graph.nodes[merge]
    back = next(it for it in node.input if graph.nodes[producer(it)].op in _BACK)
    start = next(it for it in node.input if it != back)
    source = graph.nodes[producer(back)]
    while source.op in ("NextIteration", "RefNextIteration", "Identity", "Switch") and source.input:
        source = graph.nodes[producer(source.input[0])]
    if source.name == merge:
        graph.replace(merge, start)
        return
    graph.replace(merge, graph.add(f"{merge}/carried", LOOP_CARRIED, [start], T=node.attr["T"].type).name)
