"""Tells what a model or a checkpoint holds, and what an import would do with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.errors import CheckpointError, Tpu2GpuError, UnsupportedError, UsageError, from_json
from tpu2gpu.reporting.numbers import counted
from tpu2gpu.storage.paths import Place, is_remote, place

if TYPE_CHECKING:
    from tpu2gpu.checkpoint_importer.formats.base import ImportedModel


@attrs.frozen
class Inspection:
    """The content of a path, and what an import would do with it.

    Attributes:
        source: The path.
        kind: The source's format, such as `SavedModel`, `checkpoint` or `keras`; of a model for serving its form.
        importable: Whether `import_model` takes it as it is, without a further option.
        verdict: What an import would do, or why it would not.
        report: Everything that was found, by subject.
    """

    source: Place
    kind: str
    importable: bool
    verdict: str
    report: dict[str, Any]


def inspect_model(source: str | os.PathLike[str], *, custom_objects: Sequence[str] = ()) -> Inspection:
    """Look at a model or a checkpoint without running it.

    Args:
        source: What training left, or a serving folder, an ONNX file or an engine.
        custom_objects: Modules with the classes of your own that a whole Keras model names.

    Raises:
        UsageError: A module is not there.
        SourceError: Nothing is there, or nothing that we know.
        CheckpointError: A checkpoint is damaged.
    """
    from tpu2gpu.checkpoint_importer.formats.custom_objects import digest_modules
    from tpu2gpu.checkpoint_importer.formats.registry import find_source
    from tpu2gpu.checkpoint_importer.options import ImportOptions
    from tpu2gpu.checkpoint_importer.reading import read_source
    from tpu2gpu.graphs.light_protos import load_protos
    from tpu2gpu.running.served import describe_served

    if not is_remote(source) and (served := describe_served(source)) is not None:
        return Inspection(place(source), served.kind, importable=False, verdict=served.verdict, report=served.report)
    load_protos()
    options = ImportOptions(custom_objects=tuple(custom_objects))
    digest_modules(custom_objects)
    found_source = find_source(source)
    report: dict[str, Any] = {"name": found_source.path.name, "step": found_source.step, **found_source.inspect()}
    try:
        found = read_source(found_source, options)
    except (CheckpointError, UsageError):
        raise
    except Tpu2GpuError as error:
        report["error"] = error.to_json()
        return Inspection(place(source), found_source.kind, importable=False, verdict=str(error), report=report)
    report |= _model_report(found)
    if refused := report["stablehlo_refused"]:
        verdict = str(from_json(refused))
        return Inspection(place(source), found_source.kind, importable=False, verdict=verdict, report=report)
    return Inspection(place(source), found_source.kind, importable=True, verdict=_plan(report), report=report)


def _model_report(found: ImportedModel) -> dict[str, Any]:
    from tpu2gpu.graphs.describing import (
        describe_signatures,
        describe_variables,
        dtype_name,
        unknown_ops,
        variables_size_bytes,
    )
    from tpu2gpu.graphs.ops import DT_BFLOAT16
    from tpu2gpu.graphs.passes.base import Sequential
    from tpu2gpu.graphs.passes.dynamic_batch import MakeBatchDynamic
    from tpu2gpu.graphs.passes.inline_stablehlo import InlineStableHlo
    from tpu2gpu.graphs.passes.lower_xla_ops import LowerXlaOps
    from tpu2gpu.graphs.passes.precision.widen import Widen
    from tpu2gpu.graphs.passes.rename_variables import RenameVariables
    from tpu2gpu.graphs.passes.settle_defaults import SettleDefaults
    from tpu2gpu.graphs.passes.to_inference import PASSES
    from tpu2gpu.graphs.stablehlo.artifact import describe_modules

    model, batch = found.model, MakeBatchDynamic(found.batch)
    changes = batch.run(model)
    types: dict[str, int] = {}
    for node in model.nodes.values():
        for slot in model.ops.outputs(node) or []:
            name = dtype_name(slot.type_of(node))
            types[name] = types.get(name, 0) + 1
    report = {
        "tensorflow_version": model.tensorflow_version,
        "signatures": describe_signatures(model),
        "variables": describe_variables(model),
        "variables_size_bytes": variables_size_bytes(model),
        "ops": model.op_counts(),
        "serving_unknown_ops": unknown_ops(model),
        "tensors_by_type": dict(sorted(types.items())),
        "dropped_side_effects": [{"node": node, "op": op} for node, op in sorted(model.dropped_effects.items())],
        "to_inference": found.changes,
        "dropped": found.restored.dropped if found.restored else {},
        "unused": found.restored.unused if found.restored else [],
        **changes,
    }
    # What stands above is as the source has it.
    report |= {"stablehlo_modules": describe_modules(model), "stablehlo_refused": None}
    rest = Sequential([InlineStableHlo(), LowerXlaOps(), RenameVariables(), SettleDefaults(), Widen((DT_BFLOAT16,))])
    try:
        changes = {**found.changes, **changes, **rest.run(model)}
    except UnsupportedError as error:
        return {**report, "stablehlo_refused": error.to_json(), "summary": []}
    return {**report, "summary": Sequential([*PASSES, *rest.passes, batch]).summary(changes)}


def _plan(report: dict[str, Any]) -> str:
    signatures, variables = (counted(len(report[f"{noun}s"]), noun) for noun in ("signature", "variable"))
    parts = [f"import keeps {signatures} and {variables}"]
    parts += report["summary"]
    parts += [f"drops {len(names)} {kind}" for kind, names in report["dropped"].items()]
    parts += [f"leaves {counted(len(report['unused']), 'tensor')} unused"] if report["unused"] else []
    unknown = report["serving_unknown_ops"]
    parts += [f"keeps {', '.join(unknown)}, which this TensorFlow does not know"] if unknown else []
    effects = len(report["dropped_side_effects"])
    parts += [f"drops {counted(effects, 'side effect')}"] if effects else []
    return ", ".join(parts)
