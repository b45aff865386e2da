"""Tells what a model or a checkpoint holds, and what an import would do with it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.errors import CheckpointError, Tpu2GpuError
from tpu2gpu.storage.paths import Place, place

if TYPE_CHECKING:
    from tpu2gpu.checkpoint_importer.found import Found
    from tpu2gpu.graphs.formats.detection import Source


@attrs.frozen
class Inspection:
    """What a path holds.

    Attributes:
        source: The path.
        kind: `SavedModel`, `checkpoint`, `checkpoint_v1`, `keras`, `hdf5`, `graph_def` or `meta_graph`.
        importable: Whether `import_model` takes it as it is, without a further option.
        verdict: What an import would do, or why it would not.
        report: Everything that was found, by subject.
    """

    source: Place
    kind: str
    importable: bool
    verdict: str
    report: dict[str, Any]


def inspect_model(source: str | os.PathLike[str]) -> Inspection:
    """Look at a model or a checkpoint without running it.

    Raises:
        SourceError: Nothing is there, or nothing that we know.
        CheckpointError: A checkpoint is damaged.
    """
    from tpu2gpu.checkpoint_importer.options import ImportOptions
    from tpu2gpu.checkpoint_importer.reading import read_source
    from tpu2gpu.graphs.formats import detection as sources

    found_source = sources.find_source(source)
    report: dict[str, Any] = {"name": found_source.path.name, "step": found_source.step}
    weights = _open_weights(found_source)
    if weights is not None:
        report |= _weights_report(weights)
        if place(source).is_dir():
            report["checkpoints"] = [found_source.path.name, *found_source.others]
    graph = _training_graph(found_source)
    report |= _graph_report(graph) if graph is not None else {}
    try:
        found = read_source(found_source, ImportOptions())
    except CheckpointError:
        raise
    except Tpu2GpuError as error:
        report["error"] = error.to_json()
        return Inspection(place(source), found_source.kind, importable=False, verdict=str(error), report=report)
    report |= _model_report(found)
    return Inspection(place(source), found_source.kind, importable=True, verdict=_plan(report), report=report)


def _open_weights(source: Source) -> Any:
    from tpu2gpu.checkpoint_importer.formats.keras_files import read_weights
    from tpu2gpu.graphs.formats import detection as sources
    from tpu2gpu.tensorbundle.reader import Bundle
    from tpu2gpu.tensorbundle.version1 import read_version1

    if source.kind == sources.CHECKPOINT:
        return Bundle(source.path)
    if source.kind == sources.CHECKPOINT_V1:
        return read_version1(source.path)
    return read_weights(source.path) if source.kind in (sources.KERAS, sources.HDF5) else None


def _training_graph(source: Source) -> Any:
    """The graph beside a checkpoint as it was trained, None where there is none."""
    from tpu2gpu.checkpoint_importer.formats.checkpoint import parse_meta_graph
    from tpu2gpu.graphs.formats import detection as sources

    if source.kind in (sources.CHECKPOINT, sources.CHECKPOINT_V1) and source.meta.is_file():
        return parse_meta_graph(source.meta)
    return parse_meta_graph(source.path) if source.kind == sources.META_GRAPH else None


def _weights_report(weights: Any) -> dict[str, Any]:
    from tpu2gpu.graphs.formats.variable_restore import kind_of_tensor
    from tpu2gpu.tensorbundle.format import OBJECT_GRAPH_KEY

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


def _graph_report(meta: Any) -> dict[str, Any]:
    """What stands in a training graph: TPU ops, unknown ops, tensors that could be inputs or outputs."""
    from tpu2gpu.graphs.nodes import OpDefs
    from tpu2gpu.graphs.ops import TPU_OPS
    from tpu2gpu.graphs.passes.to_inference import candidate_outputs

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
    """Whether a node may bring examples in; savers have placeholders too."""
    from tpu2gpu.graphs.passes.to_inference import FEEDS

    saver = node.name.split("/")[0].startswith("save") and node.op.startswith("Placeholder")
    return node.op in FEEDS and not saver


def _not_infeed(node: Any) -> bool:
    return not str(node.op).startswith("Infeed")


def _model_report(found: Found) -> dict[str, Any]:
    from tpu2gpu.graphs.describing import (
        describe_signatures,
        describe_variables,
        dtype_name,
        unknown_ops,
        variables_size_bytes,
    )
    from tpu2gpu.graphs.passes.dynamic_batch import MakeBatchDynamic

    model = found.model
    changes = MakeBatchDynamic(found.batch).run(model)
    types: dict[str, int] = {}
    for node in model.nodes.values():
        for slot in model.ops.outputs(node) or []:
            name = dtype_name(slot.type_of(node))
            types[name] = types.get(name, 0) + 1
    return {
        "tensorflow_version": model.tensorflow_version,
        "signatures": describe_signatures(model),
        "variables": describe_variables(model),
        "variables_size_bytes": variables_size_bytes(model),
        "ops": model.op_counts(),
        "serving_unknown_ops": unknown_ops(model),
        "tensors_by_type": dict(sorted(types.items())),
        "dropped_side_effects": [{"node": node, "op": op} for node, op in sorted(model.dropped_effects.items())],
        "to_inference": found.done,
        "dropped": found.restored.dropped if found.restored else {},
        "unused": found.restored.unused if found.restored else [],
        **changes,
    }


def _plan(report: dict[str, Any]) -> str:
    from tpu2gpu.graphs.passes.dynamic_batch import MakeBatchDynamic

    narrow = report["tensors_by_type"].get("bfloat16", 0)
    parts = [f"import keeps {len(report['signatures'])} signatures and {len(report['variables'])} variables"]
    words = {
        "training_loops": "leaves the training loop",
        "batch_norms": "makes {} batch norms read moving statistics",
        "batch_norms_unfused": "makes {} statistics of batches moving ones",
        "dropouts": "removes {} dropouts",
        "phases_folded": "folds {} training-phase placeholders",
    }
    parts += [
        text.format(len(report["to_inference"][it])) for it, text in words.items() if it in report["to_inference"]
    ]
    parts += [f"drops {len(names)} {kind}" for kind, names in report["dropped"].items()]
    parts += [f"leaves {len(report['unused'])} tensors unused"] if report["unused"] else []
    parts += [f"makes {narrow} bfloat16 tensors float32"] if narrow else []
    parts += MakeBatchDynamic().summary(report)
    unknown = report["serving_unknown_ops"]
    parts += [f"keeps {', '.join(unknown)}, which this TensorFlow does not know"] if unknown else []
    effects = len(report["dropped_side_effects"])
    parts += [f"drops {effects} side effects"] if effects else []
    return ", ".join(parts)
