"""Describes weights, and a graph as it was trained, for reports."""

from __future__ import annotations

from typing import Any

from tpu2gpu.graphs.formats.checkpoint_tensors import kind_of_tensor
from tpu2gpu.graphs.nodes import OpDefs
from tpu2gpu.graphs.ops import TPU_OPS
from tpu2gpu.graphs.passes.training.candidate_outputs import candidate_outputs
from tpu2gpu.graphs.passes.training.replace_infeeds import FEEDS
from tpu2gpu.tensorbundle.format import OBJECT_GRAPH_KEY


def describe_weights(weights: Any) -> dict[str, Any]:
    """Describe each tensor, and how many bytes each kind of them has."""
    tensors = [
        {
            "name": key,
            "dtype": weights.entry(key).dtype_name,
            "shape": list(weights.entry(key).shape),
            "size_bytes": weights.size_bytes(key),
            "kind": kind_of_tensor(key, weights) or "weights",
            "slices": len(weights.entry(key).slices),
        }
        for key in weights
        if key != OBJECT_GRAPH_KEY
    ]
    kinds: dict[str, dict[str, int]] = {}
    for tensor in tensors:
        kind = kinds.setdefault(str(tensor["kind"]), {"tensors": 0, "size_bytes": 0})
        kind["tensors"] += 1
        kind["size_bytes"] += int(tensor["size_bytes"])
    return {
        "tensors": tensors,
        "size_bytes": sum(weights.size_bytes(key) for key in weights),
        "kinds": kinds,
        "shards": weights.shards,
        "object_based": OBJECT_GRAPH_KEY in weights,
    }


def describe_training_graph(meta: Any) -> dict[str, Any]:
    """Describe a MetaGraphDef: its TPU ops, its unknown ops, the tensors that could be inputs or outputs."""
    nodes = [*meta.graph_def.node, *(node for it in meta.graph_def.library.function for node in it.node_def)]
    ops = OpDefs()
    counts: dict[str, int] = {}
    for node in nodes:
        counts[node.op] = counts.get(node.op, 0) + 1
    functions = {function.signature.name for function in meta.graph_def.library.function}
    return {
        "tensorflow_version": meta.meta_info_def.tensorflow_version,
        "training_nodes": len(nodes),
        "tpu_ops": {op: count for op, count in sorted(counts.items()) if TPU_OPS.fullmatch(op)},
        "unknown_ops": sorted(op for op in counts if op not in functions and ops.find(op) is None),
        "possible_inputs": [f"{node.name} ({node.op})" for node in sorted(nodes, key=_not_infeed) if _may_feed(node)],
        "possible_outputs": candidate_outputs(nodes),
    }


def _may_feed(node: Any) -> bool:
    """Tell whether a node may bring examples in; savers have placeholders too."""
    saver = node.name.split("/")[0].startswith("save") and node.op.startswith("Placeholder")
    return node.op in FEEDS and not saver


def _not_infeed(node: Any) -> bool:
    return not str(node.op).startswith("Infeed")
