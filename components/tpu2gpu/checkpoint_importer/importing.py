"""Imports what a TPU training run left behind as a clean inference SavedModel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.options import option
from tpu2gpu.progress import Progress, silent
from tpu2gpu.publishing import describe_source, publish

if TYPE_CHECKING:
    from tpu2gpu.graphs.serving_model import ServingModel


@attrs.frozen(kw_only=True)
class ImportOptions:
    """What to import, and how.

    Attributes:
        signature: The signatures to keep; all when none is named.
        rename: Rules for variables' names, `REGEX=REPLACEMENT`, applied in order.
        keep_bfloat16: Go on computing in bfloat16 where the source does; otherwise in float32.
    """

    signature: tuple[str, ...] = option((), "keep this signature (default: all)", metavar="NAME")
    rename: tuple[str, ...] = option((), "rename variables, in order", metavar="'REGEX=REPLACEMENT'")
    keep_bfloat16: bool = option(False, "go on computing in bfloat16 where the source does")


@attrs.frozen
class ImportResult:
    """What an import found and did.

    Attributes:
        target: The SavedModel that was written.
        signatures: Names of its signatures.
        variables: Number of its variables.
        size_bytes: Bytes of its variables.
        report: What `report.json` holds.
    """

    target: Path
    signatures: tuple[str, ...]
    variables: int
    size_bytes: int
    report: dict[str, Any]


def import_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: ImportOptions | None = None,
    *,
    force: bool = False,
    run_name: str = "",
    progress: Progress = silent,
) -> ImportResult:
    """Imports a SavedModel: serving graph alone, no TPU op, no training op, clean names.

    The graph is changed as a protocol buffer; no session runs it, and no op needs to be registered.

    Args:
        source: A SavedModel.
        target: The SavedModel to write.
        options: What to import, and how.
        force: Replace an existing target.
        run_name: The pipeline run, for the manifest.
        progress: Told what is being done.

    Raises:
        SourceError: The source is not a model.
        UnsupportedError: The source is of a kind that cannot be imported yet.
        SignatureError: A named signature is not there.
        CheckpointError: The variables are damaged.
        GraphError: The graph holds TPU ops or training-mode ops on the way to its outputs, or contradicts itself.
        OutputExistsError: The target is there already.
    """
    from tpu2gpu.checkpoint_importer.renaming import parse_rules, rename_variables
    from tpu2gpu.checkpoint_importer.sources import require_saved_model
    from tpu2gpu.graphs.inference import check_inference_form
    from tpu2gpu.graphs.precision import DT_BFLOAT16, widen
    from tpu2gpu.graphs.saved_model import read_saved_model, write_saved_model

    options = options or ImportOptions()
    parse_rules(options.rename)
    require_saved_model(source)
    about = {"step": "import", "options": attrs.asdict(options), "source": describe_source(source), "run": run_name}
    with publish(target, force=force, about=about) as staging:
        progress("read the graph", 0, 3)
        model = read_saved_model(source)
        if options.signature:
            model.signatures = {name: model.signature(name) for name in options.signature}
            model.prune()
        check_inference_form(model, source)
        progress("rewrite the graph", 1, 3)
        renamed = rename_variables(model, options.rename)
        widened = 0 if options.keep_bfloat16 else widen(model, [DT_BFLOAT16])
        staging.report = _report(model, renamed, widened)
        progress("write the SavedModel", 2, 3)
        write_saved_model(model, staging.folder)
        read_saved_model(staging.folder)  # what was written can be read
        progress("done", 3, 3)
    report = staging.report
    return ImportResult(
        Path(target), tuple(model.signatures), len(model.variables), report["variables_size_bytes"], report
    )


def _report(model: ServingModel, renamed: dict[str, str], widened: int) -> dict[str, Any]:
    from tpu2gpu.graphs.describing import describe_signatures, describe_variables, variables_size_bytes

    return {
        "signatures": describe_signatures(model),
        "variables": describe_variables(model),
        "variables_size_bytes": variables_size_bytes(model),
        "ops": model.op_counts(),
        "nodes": len(model.nodes),
        "renamed_variables": renamed,
        "nodes_from_bfloat16": widened,
        "dropped_side_effects": [{"node": node, "op": op} for node, op in sorted(model.dropped_effects.items())],
        "tensorflow_version": model.tensorflow_version,
    }
