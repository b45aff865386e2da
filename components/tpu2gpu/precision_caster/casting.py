"""Casts a SavedModel, or a checkpoint alone, to another precision."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.precision_caster.idle import refuse_nothing
from tpu2gpu.precision_caster.measured import measure_cast
from tpu2gpu.precision_caster.options import CastOptions, CastResult
from tpu2gpu.precision_caster.rules import compile_rules, decide
from tpu2gpu.precision_caster.unfit import Unfit
from tpu2gpu.progress import Progress, silent
from tpu2gpu.running.examples.python_examples import ExamplesLike, as_files, is_nothing
from tpu2gpu.storage.publishing import describe_source, publish_step

if TYPE_CHECKING:
    from tpu2gpu.graphs.model import ServingModel
    from tpu2gpu.graphs.passes.precision.retype import Narrowing
    from tpu2gpu.precision_caster.weights import CastWeights
    from tpu2gpu.tensorbundle.statistics import CastStatistics

_MOST_EXAMPLES = 1000
CHECKPOINT_PREFIX = "checkpoint/model.ckpt"


def cast_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: CastOptions | None = None,
    *,
    examples: ExamplesLike = (),
    force: bool = False,
    run_name: str = "",
    progress: Progress | None = None,
) -> CastResult:
    """Cast a SavedModel, weights and graph together; its signatures stay as they are.

    Args:
        source: A SavedModel.
        target: The SavedModel to write.
        options: How to cast.
        examples: Real examples to measure the outputs on, in the place of those that the options name: files, arrays by
            name, or an iterable of examples, such as a tf.data.Dataset.
        force: Replace an existing target.
        run_name: The pipeline run, for the manifest.
        progress: Told which weight is being looked at.

    Raises:
        PrecisionRefusedError: Values do not fit the precision, or nothing of the model was cast; the report of all
            stands beside the target.
        UsageError: A rule is malformed, contradicts another option, or names an op that does not exist.
        SourceError: The source is not a SavedModel.
        CheckpointError: Its variables are damaged.
        GraphError: Its graph contradicts itself.
        RemoteRunError: The Beam runner failed.
        OutputExistsError: The target is there already.
    """
    from tpu2gpu.graphs.formats.saved_model import read_saved_model, write_saved_model
    from tpu2gpu.graphs.light_protos import load_protos

    load_protos()
    options = options or CastOptions()
    options.check_examples()
    progress = progress or silent
    if options.precision == "float64":
        raise UsageError("--to float64: a graph computes in float32 at most", hint="give a checkpoint instead")
    if options.precision == "float32" and (options.keep or options.keep_op or options.rule):
        raise UsageError(
            "--to float32 widens a whole graph: --keep, --keep-op and --rule do not apply",
            hint="leave them out, or cast its checkpoint alone",
        )
    measures = options.measure and options.precision != "float32"
    given = options.examples if is_nothing(examples) else examples
    with (
        as_files(given if measures else (), _MOST_EXAMPLES) as files,
        publish_step("cast", describe_source(source), target, options, force=force, run_name=run_name) as staging,
    ):
        model, unfit, report = _cast(source, staging.folder, options, {}, progress)
        staging.report |= report
        unfit.refuse_overflow()
        if measures:
            measured = measure_cast(source, attrs.evolve(options, examples=files), unfit.reasons, progress)
            staging.report["measured"] = {name: it for name, it in measured.items() if name != "kept"}
            if measured.get("kept"):
                model, unfit, report = _cast(source, staging.folder, options, measured["kept"], progress)
                staging.report |= report
        refuse_nothing(model, staging.report, options)
        write_saved_model(model, staging.folder, write_variables=False, trust=options.trust)
        read_saved_model(staging.folder)  # what was written can be read
    return _result(Path(target), staging.report)


def cast_checkpoint(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: CastOptions | None = None,
    *,
    force: bool = False,
    run_name: str = "",
    progress: Progress | None = None,
) -> CastResult:
    """Cast the floating-point tensors of a checkpoint; everything else is copied byte for byte.

    Args:
        source: The checkpoint's path without `.index`.
        target: The folder to write; the checkpoint in it is `checkpoint/model.ckpt`.
        options: How to cast; `keep_op` and `cast_signature` do not apply.
        force: Replace an existing target.
        run_name: The pipeline run, for the manifest.
        progress: Told which tensor is being cast.

    Raises:
        PrecisionRefusedError: Values do not fit the precision; the report of all stands beside the target.
        UsageError: A rule is malformed, or contradicts another option.
        SourceError: There is no checkpoint.
        CheckpointError: It is damaged.
        RemoteRunError: The Beam runner failed.
        OutputExistsError: The target is there already.
    """
    from tpu2gpu.precision_caster.weights import cast_weights, choose_types, without_effect
    from tpu2gpu.tensorbundle.reader import Bundle

    options = options or CastOptions()
    options.check_examples()
    progress = progress or silent
    if options.examples or options.max_relative_error is not None:
        raise UsageError(
            "--examples and --max-relative-error: a checkpoint alone has no graph that could be measured",
            hint="give a SavedModel, or leave them out",
        )
    unfit = Unfit(options)
    with publish_step("cast", describe_source(source), target, options, force=force, run_name=run_name) as staging:
        bundle, prefix = Bundle(source), staging.folder / CHECKPOINT_PREFIX
        weights = unfit.settle(
            lambda reasons: cast_weights(bundle, choose_types(bundle, options, reasons)[0], prefix, options, progress)
        )
        _, kept = choose_types(bundle, options, unfit.reasons)
        staging.report |= {
            "precision": options.precision,
            **weights.report,
            **unfit.report(),
            "kept": [{"tensor": key, "reason": reason} for key, reason in sorted(kept.items())],
            "without_effect": without_effect(bundle, options),
        }
        unfit.refuse_overflow()
    return _result(Path(target), staging.report)


def list_cast(source: str | os.PathLike[str], options: CastOptions | None = None) -> dict[str, Any]:
    """Tell what a cast would do with a SavedModel's nodes, without its values and without a run.

    Returns:
        `precision`; `cast`, the names of the nodes that would compute in it; `kept`, for each node that would not the
        reason; `inserted_casts`, how many casts would stand between the two.

    Raises:
        UsageError: A rule is malformed, or names an op that does not exist.
        SourceError: The source is not a SavedModel.
    """
    from tpu2gpu.graphs.formats.saved_model import read_saved_model
    from tpu2gpu.graphs.light_protos import load_protos
    from tpu2gpu.precision_caster.policy import check_ops

    load_protos()
    options, model = options or CastOptions(), read_saved_model(source)
    check_ops(model, options.keep_op)
    found = _cast_graph(model, options, {}, {})
    return {
        "precision": options.precision,
        "cast": sorted(found.narrowed),
        "kept": [{"node": node, "reason": reason} for node, reason in sorted(found.kept.items())],
        "inserted_casts": len(found.casts),
    }


@attrs.frozen
class _CastModel:
    """A model after the cast of its graph; its weights are written.

    Attributes:
        model: The model.
        graph: What changed in its graph.
        weights: What changed in its weights.
    """

    model: ServingModel
    graph: Narrowing
    weights: CastWeights

    @property
    def statistics(self) -> dict[str, CastStatistics]:
        """What the cast did to weights and constants, by name."""
        return {**{name: it.statistics for name, it in self.graph.constants.items()}, **self.weights.statistics}

    @property
    def filters(self) -> list[str]:
        """Weights and constants that are matrices or more."""
        shapes = {name: it.shape for name, it in self.graph.constants.items()}
        shapes |= {name: it.shape for name, it in self.model.variables.items()}
        return [name for name, shape in shapes.items() if len(shape) > 1]


def _cast(
    source: str | os.PathLike[str],
    folder: Path,
    options: CastOptions,
    measured: Mapping[str, str],
    progress: Progress,
) -> tuple[ServingModel, Unfit, dict[str, Any]]:
    """Rewrite the graph and write the weights, again without what does not fit.

    Returns:
        The model, the weights that do not fit, and the report.
    """
    from tpu2gpu.graphs.formats.saved_model import VARIABLES_PREFIX, read_saved_model
    from tpu2gpu.precision_caster.policy import check_ops, without_effect
    from tpu2gpu.precision_caster.weights import CastWeights, cast_weights, describe_weight
    from tpu2gpu.tensorbundle.format import DTYPE_ENUMS
    from tpu2gpu.tensorbundle.reader import Bundle
    from tpu2gpu.tensorbundle.streaming import Wanted

    idle: list[str] = []

    def attempt(reasons: Mapping[str, str]) -> _CastModel:
        shutil.rmtree((folder / VARIABLES_PREFIX).parent, ignore_errors=True)
        model = read_saved_model(source)
        check_ops(model, options.keep_op)
        idle[:] = without_effect(model, options)
        graph = _cast_graph(model, options, reasons, measured)
        weights = CastWeights({"weights": [], "size_bytes": 0, "cast_size_bytes": 0}, {})
        if isinstance(model.bundle, Bundle):
            wanted = [Wanted(name, it.key, it.dtype, options.clamp, it.box) for name, it in model.variables.items()]
            weights = cast_weights(model.bundle, wanted, folder / VARIABLES_PREFIX, options, progress)
        return _CastModel(model, graph, weights)

    unfit = Unfit(options)
    asked = compile_rules(options.keep, options.rule, None)
    narrows = options.precision != "float32"
    cast = unfit.settle(attempt, lambda it: [name for name in it.filters if narrows and not decide(asked, name)])
    constants = [
        describe_weight(name, it.source, DTYPE_ENUMS[options.precision], it.shape, it.statistics, options)
        for name, it in sorted(cast.graph.constants.items())
    ]
    report = {
        "precision": options.precision,
        **cast.weights.report,
        "constants": constants,
        "changed_nodes": cast.graph.widened_nodes + len(cast.graph.narrowed),
        "inserted_casts": len(cast.graph.casts),
        "kept": [{"node": node, "reason": reason} for node, reason in sorted(cast.graph.kept.items())],
        "without_effect": idle,
        **unfit.report(),
    }
    return cast.model, unfit, report


def _cast_graph(
    model: ServingModel, options: CastOptions, unfit: Mapping[str, str], measured: Mapping[str, str]
) -> Narrowing:
    from tpu2gpu.graphs.ops import DT_BFLOAT16, DT_HALF
    from tpu2gpu.graphs.passes.precision.narrow import narrow
    from tpu2gpu.graphs.passes.precision.retype import Narrowing
    from tpu2gpu.graphs.passes.precision.widen import Widen
    from tpu2gpu.precision_caster.policy import policy_of
    from tpu2gpu.tensorbundle.format import DTYPE_ENUMS

    if options.precision == "float32":
        types = {DTYPE_ENUMS[name] for name in options.sources or ("float16", "bfloat16")}
        return Narrowing(**Widen(types, keep_signature=not options.cast_signature).run(model))
    wanted = DTYPE_ENUMS[options.precision]
    # One narrow type at a time: what computes in the other one goes through float32.
    widened = Widen({DT_HALF, DT_BFLOAT16} - {wanted}, keep_signature=not options.cast_signature).run(model)
    policy = policy_of(options, unfit, measured)
    result = narrow(model, wanted, policy, cast_signature=options.cast_signature, clamp=options.clamp)
    return attrs.evolve(result, **widened)


def _result(target: Path, report: dict[str, Any]) -> CastResult:
    """Return the result of a report; its largest error is that of everything that was cast, constants too."""
    cast = [*report["weights"], *report.get("constants", ())]
    errors = [it["max_relative_error"] for it in cast if "max_relative_error" in it]
    measured = report.get("measured", {})
    return CastResult(
        target=target,
        size_bytes=report["size_bytes"],
        cast_size_bytes=report["cast_size_bytes"],
        cast_tensors=len(cast),
        max_relative_error=max(errors, default=None if cast else 0.0),
        end_to_end_error=measured.get("error"),
        measured_on=measured.get("origin", ""),
        kept_for_budget=tuple(measured.get("kept_nodes", ())),
        without_effect=tuple(report["without_effect"]),
        report=report,
    )
