"""Imports what a TPU training run left behind as a clean inference SavedModel."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.checkpoint_importer.options import ImportOptions, ImportResult, parse_fixed, parse_inputs, parse_outputs
from tpu2gpu.progress import Progress, silent
from tpu2gpu.storage.paths import place
from tpu2gpu.storage.publishing import describe_source, publish_step

if TYPE_CHECKING:
    from tpu2gpu.graphs.model import ServingModel


def import_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: ImportOptions | None = None,
    *,
    force: bool = False,
    run_name: str = "",
    progress: Progress | None = None,
) -> ImportResult:
    """Make a clean SavedModel for serving of what a training run left: no TPU op, no training op, clean names.

    The graph is changed as a protocol buffer; no session runs it, and no op needs to be registered.

    Args:
        source: A SavedModel; a checkpoint (its prefix, or the training folder) with a `.meta` file beside it or
            `options.graph`; a frozen `.pb`; a `.keras` archive; an `.h5` file of weights with `options.graph`.
        target: The SavedModel to write.
        options: What to import, and how.
        force: Replace an existing target.
        run_name: The pipeline run, for the manifest.
        progress: Told what is being done.

    Raises:
        SourceError: The source is not a model, or has no checkpoint of this step.
        UnsupportedError: The source is of a kind, or holds something, that cannot be imported.
        UsageError: An option is malformed, or does not go with this source.
        SignatureError: A named signature, input or output is not there, or they cannot be told.
        CheckpointError: The variables are damaged.
        GraphError: Something on the way to the outputs cannot serve, checkpoint and graph do not fit, or a pass of
            `options.extra_pass` failed.
        OutputExistsError: The target is there already.
    """
    from tpu2gpu.checkpoint_importer.formats.custom_objects import digest_modules
    from tpu2gpu.checkpoint_importer.formats.registry import find_source
    from tpu2gpu.checkpoint_importer.reading import read_source
    from tpu2gpu.graphs.formats.saved_model import read_saved_model, write_saved_model
    from tpu2gpu.graphs.light_protos import load_protos
    from tpu2gpu.graphs.ops import DT_BFLOAT16
    from tpu2gpu.graphs.passes.base import Sequential
    from tpu2gpu.graphs.passes.dynamic_batch import MakeBatchDynamic
    from tpu2gpu.graphs.passes.extra_passes import load_passes
    from tpu2gpu.graphs.passes.inline_stablehlo import InlineStableHlo
    from tpu2gpu.graphs.passes.lower_xla_ops import LowerXlaOps
    from tpu2gpu.graphs.passes.precision.widen import Widen
    from tpu2gpu.graphs.passes.rename_variables import (
        RenameVariables,
        check_expressions,
        describe_idle_rules,
        parse_rules,
    )
    from tpu2gpu.graphs.passes.settle_defaults import SettleDefaults
    from tpu2gpu.graphs.passes.to_inference import with_extra
    from tpu2gpu.graphs.stablehlo.artifact import describe_modules

    load_protos()
    options = options or ImportOptions()
    progress = progress or silent
    if options.checkpoint_name:
        source = place(source) / options.checkpoint_name
    parse_rules(options.rename)
    extra = load_passes(options.extra_pass)
    check_expressions("drop", options.drop)
    parse_inputs(options.input)
    all_passes = with_extra(options.extra_pass, parse_fixed(options.fix))
    parse_outputs(options.output)
    more = {
        "extra_passes": {it.spec: it.source_sha256 for it in extra},
        "custom_objects": digest_modules(options.custom_objects),
    }
    more = {name: digests for name, digests in more.items() if digests}
    found_source = find_source(source, options.step)
    about = describe_source(source)
    frame = publish_step("import", about, target, options, force=force, run_name=run_name, more=more)
    with frame as staging, _uncollected():
        progress("read the graph", 0, 3)
        found = read_source(found_source, options)
        model = found.model
        if options.signature:
            model.keep_signatures(options.signature)
        progress("rewrite the graph", 1, 3)
        passes = Sequential(
            [
                *(() if options.keep_stablehlo else (InlineStableHlo(), LowerXlaOps())),
                RenameVariables(options.rename),
                SettleDefaults(),
                Widen(() if options.keep_bfloat16 else (DT_BFLOAT16,)),
                MakeBatchDynamic(found.batch, options.batch),
            ]
        )
        kept = describe_modules(model) if options.keep_stablehlo else []
        before = list(model.variables)
        changes = passes.run(model)
        staging.report = {
            **_report(model),
            **changes,
            "kept_stablehlo": kept,
            "tags": list(found.tags),
            "source": {"kind": found_source.kind, "name": found_source.path.name, "step": found_source.step},
            "to_inference": {kind: names for kind, names in found.changes.items() if kind not in options.extra_pass},
            "extra_passes": {name: found.changes.get(name, {}) for name in options.extra_pass},
            "idle_rules": describe_idle_rules(options.rename, before),
            "summary": Sequential([*all_passes, *passes.passes]).summary({**found.changes, **changes}),
            "checkpoint": attrs.asdict(found.restored) if found.restored else None,
        }
        progress("write the SavedModel", 2, 3)
        write_saved_model(model, staging.folder, trust=options.trust)
        read_saved_model(staging.folder)  # what was written can be read
        progress("done", 3, 3)
    report = staging.report
    return ImportResult(
        target=Path(target),
        signatures=tuple(model.signatures),
        variables=len(model.variables),
        size_bytes=report["variables_size_bytes"],
        report=report,
        remarks=tuple(_remarks(report)),
    )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Stop the search for cycles: a graph's many messages have none, and it takes a fifth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _remarks(report: dict[str, Any]) -> Iterator[str]:
    if unknown := report["unknown_ops"]:
        yield f"this TensorFlow does not know {', '.join(unknown)}: a server needs the libraries that bring them"
    yield from report["idle_rules"]
    if report["tags"] and "serve" not in report["tags"]:
        yield f"the model's only graph is tagged {','.join(report['tags'])} and not serve; it was taken"
    for module in report.get("stablehlo", ()):
        code = f", that of {module['platform']}" if module["platform"] else ""
        yield f"{module['module']} became {module['nodes']} nodes{code}"
    if ops := report.get("xla_ops"):
        named = ", ".join(f"{count} {op}" for op, count in ops.items())
        yield f"Xla ops, as older JAX exports hold them, became TensorFlow's: {named}"
    for module in report["kept_stablehlo"]:
        yield f"{module} was kept whole: nothing in it can be cast or put into an engine"
    for name, signature in report["signatures"].items():
        for key, tensor in signature["inputs"].items():
            if tensor["shape"] is None and "parts" not in tensor:
                yield (
                    f"signature {name}: the number of dimensions of input {key} is unknown, and most steps want it: "
                    f"import again with --input {key}:{tensor['dtype']}:SHAPE"
                )
    for node, reason in report["batch"]["held_by"].items():
        yield f"the batch stays {report['batch']['batch']}: {node}: {reason}"


def _report(model: ServingModel) -> dict[str, Any]:
    from tpu2gpu.graphs.describing import describe_signatures, describe_variables, unknown_ops, variables_size_bytes

    return {
        "signatures": describe_signatures(model),
        "variables": describe_variables(model),
        "variables_size_bytes": variables_size_bytes(model),
        "ops": model.op_counts(),
        "unknown_ops": unknown_ops(model),
        "nodes": len(model.nodes),
        "dropped_side_effects": [{"node": node, "op": op} for node, op in sorted(model.dropped_effects.items())],
        "tensorflow_version": model.tensorflow_version,
    }
