"""Casts a SavedModel, or a checkpoint alone, to another precision."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.errors import PrecisionRefusedError
from tpu2gpu.options import option
from tpu2gpu.progress import Progress, silent
from tpu2gpu.publishing import describe_source, publish

if TYPE_CHECKING:
    from tpu2gpu.graphs.serving_model import ServingModel

PRECISIONS = ("float32", "float16", "bfloat16")
CHECKPOINT_PREFIX = "checkpoint/model.ckpt"


@attrs.frozen(kw_only=True)
class CastOptions:
    """How to cast.

    Attributes:
        to: The precision to compute and store weights in.
        keep: Nodes, variables and tensors that keep their precision, by regular expression.
        keep_op: Ops that keep float32.
        on_overflow: What to do with tensors whose values the precision cannot hold.
        cast_signature: Cast the inputs and outputs too; otherwise they stay as they are.
    """

    to: str = option("float16", "precision to compute and store weights in", choices=PRECISIONS)
    keep: tuple[str, ...] = option((), "keep what this regular expression finds in names", metavar="REGEX")
    keep_op: tuple[str, ...] = option((), "keep this op in float32", metavar="OP")
    on_overflow: str = option("refuse", "what to do with tensors that do not fit", choices=("refuse", "keep", "clamp"))
    cast_signature: bool = option(False, "cast the signature's inputs and outputs too")


@attrs.frozen
class CastResult:
    """What a cast did.

    Attributes:
        target: The folder that was written.
        size_bytes: Bytes of weights before.
        cast_size_bytes: Bytes of weights after.
        cast_tensors: How many weights changed their type.
        max_relative_error: Largest relative error among the weights that stayed finite and nonzero.
        report: What `report.json` holds.
    """

    target: Path
    size_bytes: int
    cast_size_bytes: int
    cast_tensors: int
    max_relative_error: float
    report: dict[str, Any]


def cast_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: CastOptions | None = None,
    *,
    force: bool = False,
    run_name: str = "",
    progress: Progress = silent,
) -> CastResult:
    """Casts a SavedModel, weights and graph together; its signatures stay as they are.

    Args:
        source: A SavedModel.
        target: The SavedModel to write.
        options: How to cast.
        force: Replace an existing target.
        run_name: The pipeline run, for the manifest.
        progress: Told which weight is being looked at.

    Raises:
        PrecisionRefusedError: Values do not fit the precision; the report of all stands beside the target.
        UsageError: An expression of `keep` is malformed.
        SourceError: The source is not a SavedModel.
        CheckpointError: Its variables are damaged.
        GraphError: Its graph contradicts itself.
        OutputExistsError: The target is there already.
    """
    from tpu2gpu.graphs.saved_model import read_saved_model, write_saved_model

    options = options or CastOptions()
    with publish(target, force=force, about=_about(options, source, run_name)) as staging:
        model = _cast_graph(source, options, staging.report, progress)
        write_saved_model(model, staging.folder)
        read_saved_model(staging.folder)  # what was written can be read
    return _result(Path(target), staging.report)


def cast_checkpoint(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: CastOptions | None = None,
    *,
    force: bool = False,
    run_name: str = "",
    progress: Progress = silent,
) -> CastResult:
    """Casts the floating-point tensors of a checkpoint; everything else is copied byte for byte.

    Args:
        source: The checkpoint's path without `.index`.
        target: The folder to write; the checkpoint in it is `checkpoint/model.ckpt`.
        options: How to cast; `keep_op` and `cast_signature` do not apply.
        force: Replace an existing target.
        run_name: The pipeline run, for the manifest.
        progress: Told which tensor is being cast.

    Raises:
        PrecisionRefusedError: Values do not fit the precision; the report of all stands beside the target.
        UsageError: An expression of `keep` is malformed.
        SourceError: There is no checkpoint.
        CheckpointError: It is damaged.
        OutputExistsError: The target is there already.
    """
    from tpu2gpu.precision_caster.weights import cast_bundle
    from tpu2gpu.tensorbundle.reader import Bundle

    options = options or CastOptions()
    with publish(target, force=force, about=_about(options, source, run_name)) as staging:
        bundle = Bundle(source)
        weights = cast_bundle(bundle, staging.folder / CHECKPOINT_PREFIX, options, progress)
        staging.report = {"precision": options.to, **weights}
        _refuse_overflow(staging.report["overflows"], options)
    return _result(Path(target), staging.report)


def _cast_graph(
    source: str | os.PathLike[str], options: CastOptions, report: dict[str, Any], progress: Progress
) -> ServingModel:
    """Rewrites the graph and reports; with `on_overflow=keep` again, without the tensors that overflow."""
    from tpu2gpu.graphs.precision import DT_BFLOAT16, DT_HALF, narrow, widen
    from tpu2gpu.graphs.saved_model import read_saved_model
    from tpu2gpu.precision_caster.policy import serving_policy
    from tpu2gpu.precision_caster.weights import weight_report
    from tpu2gpu.tensorbundle.format import DTYPE_ENUMS

    keep_names: set[str] = set()
    while True:
        model = read_saved_model(source)
        report.clear()
        report["precision"] = options.to
        if options.to == "float32":
            report["changed_nodes"] = widen(model, [DT_HALF, DT_BFLOAT16])
            overflows: dict[str, float] = {}
        else:
            # One narrow type at a time: what computes in the other one goes through float32.
            widen(model, {DT_HALF, DT_BFLOAT16} - {DTYPE_ENUMS[options.to]})
            policy = serving_policy(options.keep, options.keep_op, keep_names)
            result = narrow(model, DTYPE_ENUMS[options.to], policy, cast_signature=options.cast_signature)
            overflows = result.overflows
            report |= {
                "changed_nodes": len(result.narrowed),
                "inserted_casts": len(result.casts),
                "kept": [{"node": node, "reason": reason} for node, reason in sorted(result.kept.items())],
            }
        report |= weight_report(model, clamp=options.on_overflow == "clamp", progress=progress)
        overflows = {**overflows, **report["overflows"]}
        report["overflows"] = overflows
        if options.on_overflow == "keep" and overflows.keys() - keep_names:
            keep_names |= overflows.keys()
            continue
        report["kept_for_overflow"] = sorted(keep_names)
        _refuse_overflow(overflows, options)
        return model


def _refuse_overflow(overflows: dict[str, float], options: CastOptions) -> None:
    if overflows and options.on_overflow == "refuse":
        raise PrecisionRefusedError(
            f"{len(overflows)} tensors hold values that {options.to} cannot",
            details=[f"{name}: largest magnitude {absmax:g}" for name, absmax in sorted(overflows.items())],
            way_out="give --on-overflow keep (they stay as they are) or --on-overflow clamp",
        )


def _about(options: CastOptions, source: str | os.PathLike[str], run_name: str) -> dict[str, Any]:
    return {
        "step": "cast",
        "options": attrs.asdict(options),
        "source": describe_source(source),
        "run": run_name,
    }


def _result(target: Path, report: dict[str, Any]) -> CastResult:
    errors: Iterator[float] = (weight["max_relative_error"] for weight in report["weights"])
    return CastResult(
        target=target,
        size_bytes=report["size_bytes"],
        cast_size_bytes=report["cast_size_bytes"],
        cast_tensors=len(report["weights"]),
        max_relative_error=max(errors, default=0.0),
        report=report,
    )
