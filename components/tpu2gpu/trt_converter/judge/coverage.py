"""The branches and operations of a model that no request reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tpu2gpu.errors import Tpu2GpuError, first_line
from tpu2gpu.graphs.calls import caller
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.graphs.nodes import data_inputs, split_tensor
from tpu2gpu.graphs.ops import CASES, IFS, SWITCHES
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.local.graph_session import GraphSession

_CHOICES = ("Select", "SelectV2")
_LOOKUPS = ("LookupTableFind", "LookupTableFindV2")
_COUNTED = frozenset(
    """Where Unique UniqueV2 NonMaxSuppression NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4
    NonMaxSuppressionV5 NonMaxSuppressionWithOverlaps""".split()
)
"""Operations whose output may be empty: what follows them then computes nothing."""
_OPS_SHOWN = 4


def not_exercised(
    source: str, signature: str, batches: Iterable[Mapping[str, Array]], *, trust: Sequence[str] = ()
) -> list[str]:
    """Name the branches and operations of a signature that no batch reached.

    Of branches inside the bodies of others, and of loops, nothing is known.

    Args:
        source: The SavedModel's folder.
        signature: Which signature.
        batches: What it was run on.
        trust: What it may do besides computing.
    """
    try:
        model = read_saved_model(source)
        if not any(node.op in _WATCHED for node in model.nodes.values()):
            return []
        session = GraphSession(source, signature, trust=trust)
        watched = [node for node in session.nodes.values() if node.op in _WATCHED]
        fetches = {node.name: [name for name in _fetches(node) if session.can_fetch(name)] for node in watched}
        watched = [node for node in watched if len(fetches[node.name]) == len(_fetches(node))]
        seen: dict[str, set[Any]] = {node.name: set() for node in watched}
        names = sorted({name for node in watched for name in fetches[node.name]})
        for batch in batches:
            values = session.run(names, batch) if names else {}
            for node in watched:
                seen[node.name] |= _WATCHED[node.op](*(values[name] for name in fetches[node.name]))
        return [line for node in watched for line in _missed(node, seen[node.name], session)]
    except Tpu2GpuError as error:
        return [f"which branches were not cannot be told: {first_line(error)}"]


def _truths(condition: Array) -> set[Any]:
    if condition.dtype.kind not in "biuf":
        return {bool(condition.size)}
    return {bool(value) for value in np.unique(condition.astype(bool))}


def _numbers(index: Array) -> set[Any]:
    return {int(index)}


def _found(values: Array, default: Array) -> set[Any]:
    return {bool(same) for same in np.unique(np.asarray(values == default))}


def _filled(output: Array) -> set[Any]:
    return {bool(output.size)}


_Watch = Callable[..., set[Any]]
_WATCHED: Mapping[str, _Watch] = {
    **dict.fromkeys([*IFS, *SWITCHES, *_CHOICES], _truths),
    **dict.fromkeys(CASES, _numbers),
    **dict.fromkeys(_LOOKUPS, _found),
    **dict.fromkeys(_COUNTED, _filled),
}


def _fetches(node: Any) -> list[str]:
    """Return the tensors that tell what a node did."""
    inputs = [":".join(map(str, split_tensor(reference))) for reference in data_inputs(node)]
    if node.op in SWITCHES:
        return [inputs[1]]
    if node.op in _LOOKUPS:
        return [f"{node.name}:0", inputs[2]]
    return [f"{node.name}:0"] if node.op in _COUNTED else [inputs[0]]


def _missed(node: Any, seen: set[Any], session: GraphSession) -> list[str]:
    """Tell what a node never did."""
    name = f"{node.name} ({node.op})"
    if node.op in (*IFS, *CASES):
        call = caller(node)
        branches = [] if call is None else call.names(node)
        taken = {0 if value else 1 for value in seen} if node.op in IFS else seen
        missed = [place for place in range(len(branches)) if place not in taken]
        labels = ("true", "false") if node.op in IFS else tuple(map(str, range(len(branches))))
        return [f"{name}: the branch for {labels[place]}{_ops_of(branches[place], session)}" for place in missed]
    if node.op in _LOOKUPS:
        if seen == {True}:
            return [f"{name}: no key was found"]
        return [f"{name}: every key was found"] if seen == {False} else []
    if node.op in _COUNTED:
        return [] if True in seen else [f"{name}: it gave nothing"]
    missing = {True, False} - seen
    return [f"{name}: its condition was never {str(value).lower()}" for value in sorted(missing)]


def _ops_of(function: str, session: GraphSession) -> str:
    """Return the most frequent operations of a branch, for people."""
    body = session.functions.get(function)
    counts = Counter(inner.op for inner in body.node_def) if body is not None else Counter()
    idle = ("Const", "Identity", "NoOp")
    ops = [op for op, _ in counts.most_common() if op not in idle][:_OPS_SHOWN]
    return f", with {', '.join(ops)}" if ops else ""
