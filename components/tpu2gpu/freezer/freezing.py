"""Freezes a model: variables become constants, everything else stays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpu2gpu.errors import GraphError, UsageError
from tpu2gpu.freezer.options import FreezeOptions, FreezeResult
from tpu2gpu.graphs.passes.base import Pass, Sequential
from tpu2gpu.graphs.passes.freezing.freeze_variables import FreezeVariables
from tpu2gpu.progress import Progress, silent
from tpu2gpu.storage.publishing import describe_source, publish_step

if TYPE_CHECKING:
    from tpu2gpu.graphs.model import ServingModel
    from tpu2gpu.graphs.passes.to_inference import Served


def freeze_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: FreezeOptions | None = None,
    *,
    force: bool = False,
    run_name: str = "",
    progress: Progress | None = None,
) -> FreezeResult:
    """Freeze a model; signatures, assets and tables stay, and outputs are equal bit for bit.

    Weights go from the checkpoint to the graph's file as bytes, without a session and without a copy in memory.

    Args:
        source: A SavedModel; or a graph (`.meta`, `.pb`, `.pbtxt`) whose checkpoint `options` names.
        target: The folder to write.
        options: What to take, to do and to write.
        force: Replace an existing target.
        run_name: The pipeline run, for the manifest.
        progress: Told what is being done.

    Raises:
        UsageError: Options contradict each other or the source.
        SourceError: The source is not a model.
        SignatureError: A named signature or output is not there.
        CheckpointError: Its variables are damaged.
        GraphError: Its graph is in training form, or writes to its variables.
        UnsupportedError: An op takes a variable that is neither a read nor control flow, or the graph would be too
            large.
        OutputExistsError: The target is there already.
    """
    from tpu2gpu.graphs.describing import describe_signatures, size_bytes
    from tpu2gpu.graphs.formats.graph_def import write_graph_def
    from tpu2gpu.graphs.formats.graph_size import check_graph_size, too_large
    from tpu2gpu.graphs.formats.saved_model import write_saved_model
    from tpu2gpu.graphs.light_protos import load_protos

    load_protos()
    options = options or FreezeOptions()
    progress = progress or silent
    with publish_step("freeze", describe_source(source), target, options, force=force, run_name=run_name) as staging:
        progress("read the graph", 0, 3)
        served = _read(source, options)
        model = served.model
        if options.signature:
            model.keep_signatures(options.signature)
        if not options.to_inference:
            _check_form(model, source)
        progress("rewrite the graph", 1, 3)
        kept = too_large(model, options.max_graph_bytes) if options.split_weights else []
        changes = Sequential([FreezeVariables(kept)]).run(model)
        frozen = [{"name": name, "size_bytes": size_bytes(it)} for name, it in sorted(model.constants.items())]
        staging.report = {
            "frozen": frozen,
            "kept_variables": [
                {"name": name, "size_bytes": size_bytes(it)} for name, it in sorted(model.variables.items())
            ],
            "size_bytes": sum(item["size_bytes"] for item in frozen),
            **changes,
            "to_inference": served.changes,
            "cleanups": Sequential(_cleanups(options)).run(model),
            "signatures": describe_signatures(model),
            "ops": model.op_counts(),
            "dropped_side_effects": [{"node": node, "op": op} for node, op in sorted(model.dropped_effects.items())],
        }
        check_graph_size(model, options.max_graph_bytes)
        progress("write the weights", 2, 3)
        if options.format != "graph_def":
            write_saved_model(model, staging.folder, trust=options.trust)
        if options.format != "saved_model":
            write_graph_def(model, staging.folder, trust=options.trust)
        progress("done", 3, 3)
    report = staging.report
    return FreezeResult(Path(target), len(frozen), len(report["kept_variables"]), report["size_bytes"], report)


def _read(source: str | os.PathLike[str], options: FreezeOptions) -> Served:
    """Read the model; with `to_inference` in the form for serving, whatever it was."""
    from tpu2gpu.graphs.formats.importing_first import not_a_saved_model
    from tpu2gpu.graphs.formats.meta_graph import read_bare_graph, read_checkpointed_graph
    from tpu2gpu.graphs.formats.saved_model import (
        SAVED_MODEL_FILE,
        VARIABLES_PREFIX,
        choose_meta_graph,
        parse_saved_model,
        read_saved_model,
    )
    from tpu2gpu.graphs.passes.to_inference import Served, serve_if_trained

    if options.checkpoint and (Path(source) / SAVED_MODEL_FILE).is_file():
        raise UsageError(f"--checkpoint: {source} is a SavedModel, which has its variables with it")
    if not options.checkpoint and not (Path(source) / SAVED_MODEL_FILE).is_file():
        if Path(source).suffix in (".meta", ".pb", ".pbtxt"):
            first = not_a_saved_model(source).hint
            raise UsageError(
                f"{source}: a graph alone", hint=f"give its variables with --checkpoint PREFIX, or {first}"
            )
        raise not_a_saved_model(source)

    def read() -> ServingModel:
        if options.checkpoint:
            return read_checkpointed_graph(source, options.checkpoint, options.output, trust=options.trust)
        return read_saved_model(source)

    def read_meta_graph() -> Any:
        if options.checkpoint:
            return read_bare_graph(source, options.output)
        return choose_meta_graph(parse_saved_model(source), source)

    if not options.to_inference:
        return Served(read(), {}, None)
    return serve_if_trained(read, read_meta_graph, source, options.checkpoint or Path(source) / VARIABLES_PREFIX)


def _check_form(model: ServingModel, source: str | os.PathLike[str]) -> None:
    from tpu2gpu.graphs.passes.training.training_ops import check_inference_form

    try:
        check_inference_form(model, source)
    except GraphError as error:
        if "training form" not in error.message:
            raise
        raise GraphError(
            error.message, details=error.details, hint="let --to-inference bring it to the form for serving"
        ) from error


def _cleanups(options: FreezeOptions) -> list[Pass]:
    """Return the cleanups that were asked for; batch norms fold into convolutions whose weights are constants."""
    from tpu2gpu.graphs.passes.freezing.fold_batch_norm import FoldBatchNorm
    from tpu2gpu.graphs.passes.freezing.fold_constants import FoldConstants
    from tpu2gpu.graphs.passes.freezing.remove_identities import RemoveIdentities

    wanted = [
        (RemoveIdentities(), options.clean),
        (FoldConstants(), options.fold_constants or options.fold_batch_norm),
        (FoldBatchNorm(), options.fold_batch_norm),
    ]
    return [cleanup for cleanup, is_wanted in wanted if is_wanted]
