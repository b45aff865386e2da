"""`convert_model`: a SavedModel becomes a folder that a server loads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.errors import CoverageRefusedError, UsageError
from tpu2gpu.progress import Progress, silent
from tpu2gpu.running.examples.python_examples import ExamplesLike, as_files, is_nothing
from tpu2gpu.trt_converter.options import ConvertOptions, ConvertResult

_MOST_EXAMPLES = 1000  # more are read of no file either, unless int8 asks for them

if TYPE_CHECKING:
    from tpu2gpu.trt_converter.backends.base import Conversion, DryRun


def convert_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: ConvertOptions | None = None,
    *,
    examples: ExamplesLike = (),
    force: bool = False,
    run_name: str = "",
    progress: Progress | None = None,
) -> ConvertResult:
    """Convert a SavedModel to ONNX, and to a TensorRT engine where one can be built, and lay them out for a server.

    Nothing is written whose outputs are not those of the source: every operation is known, the ONNX file is sound, ONNX
    Runtime runs it, and its outputs on examples stay within the tolerance of TensorFlow's.

    Args:
        source: The SavedModel's folder; frozen or with variables, of TensorFlow 1 or 2.
        target: The serving folder to write.
        options: How to convert.
        examples: Real examples, in the place of those that the options name: files, arrays by name, or an iterable of
            examples, such as a tf.data.Dataset.
        force: Replace an existing target.
        run_name: The run that this belongs to, for the manifest.
        progress: Told what is being done.

    Raises:
        SourceError: The source is no sound SavedModel.
        SignatureError: It has no such signature.
        OutputExistsError: The target is there already.
        UsageError: An option contradicts another, or the model.
        ConversionError: A back end does not take the model; operations are listed.
        ParityRefusedError: The converted model gives other outputs.
        CoverageRefusedError: Less of its compute than asked for lies in the core.
        ExamplesError: The examples do not fit the model.
        UnsupportedError: A case that this version does not do.
        EnvironmentLacksError: The asked back end is not here, or a process of it died, hung or outgrew its limit.
    """
    from tpu2gpu.graphs.formats.importing_first import not_a_saved_model
    from tpu2gpu.process.judging import JUDGE_ENVIRONMENT, JUDGE_PRELOAD
    from tpu2gpu.process.worker import prepare_children
    from tpu2gpu.storage.publishing import check_free, describe_source, publish_step
    from tpu2gpu.trt_converter.backends.base import STEPS
    from tpu2gpu.trt_converter.backends.choice import choose_backend
    from tpu2gpu.trt_converter.layouts.readme import summary
    from tpu2gpu.trt_converter.layouts.serving_folder import lay_out
    from tpu2gpu.trt_converter.request import Request

    options = options or ConvertOptions()
    progress = progress or silent
    source, target = Path(source), Path(target)
    if not (source / "saved_model.pb").is_file():  # which can be seen without loading TensorFlow
        raise not_a_saved_model(source)
    check_free(target, force=force)
    prepare_children(JUDGE_ENVIRONMENT, JUDGE_PRELOAD)  # TensorFlow is imported while back ends are looked for
    choice = choose_backend(options)
    about = describe_source(source)
    with (
        publish_step("convert", about, target, options, force=force, run_name=run_name) as staging,
        as_files(options.examples if is_nothing(examples) else examples, _MOST_EXAMPLES) as files,
    ):
        request = Request.of(source, attrs.evolve(options, examples=files))
        staging.report = {
            "step": "convert",
            "source": about,
            "backends": [attrs.asdict(availability) for availability in choice.probed],
            "no_engine_because": choice.why_no_engine,
        }
        made = choice.backend.convert(request, staging, progress)
        staging.report["core_coverage"] = made.core_coverage
        _check_coverage(made, options)
        progress("writing the serving folder", STEPS - 1, STEPS)
        why_no_engine = made.why_no_engine or choice.why_no_engine
        lines = [*summary(made.plan, choice.backend.verification(made.plan), why_no_engine), *made.notes]
        lay_out(staging.folder, request, made, choice.backend, lines)
        findings = _findings(made)
        staging.about["verified_level"] = made.plan.verified_level
        staging.report.update({"at_a_glance": lines, "no_engine_because": why_no_engine, **findings})
        progress("done", STEPS, STEPS)
    return ConvertResult(target=target, report=staging.report, **findings)


def dry_run(source: str | os.PathLike[str], options: ConvertOptions | None = None) -> DryRun:
    """Tell what would run in engines and why not the rest, without a GPU; nothing is written.

    Args:
        source: The SavedModel's folder.
        options: The back end that is asked, and its options.

    Raises:
        UsageError: The back end cannot tell.
        EnvironmentLacksError: What tells it is not here.
        SourceError: The source is no sound SavedModel.
        SignatureError: It has no such signature.
    """
    from tpu2gpu.trt_converter.backend_registry import AUTO
    from tpu2gpu.trt_converter.backends.base import back_end

    options = options or ConvertOptions()
    if options.backend == AUTO:
        raise UsageError(
            f"--dry-run with --backend {AUTO}: it is of one back end",
            hint="choose --backend tf_trt; the other back ends report their coverage when they convert",
        )
    return back_end(options.backend).dry_run(Path(source), options)


def _findings(made: Conversion) -> dict[str, Any]:
    """Return the fields of a ConvertResult but for target and report."""
    plan = made.plan
    figures = {
        "engine_coverage": plan.engine_coverage,
        "core_coverage": made.core_coverage,
        "relative_error": plan.relative_error,
        "tolerance": plan.tolerance,
        "onnx_size_bytes": made.onnx_size_bytes,
        "engine_size_bytes": made.engine_size_bytes,
        "build_s": made.build_s,
        "peak_rss_bytes": made.peak_rss_bytes,
    }
    return {
        "backend": plan.backend,
        "backend_version": made.backend_version,
        "dtype": plan.dtype,
        "verified_level": plan.verified_level,
        **figures,
        "metrics": {name: float(value) for name, value in {**figures, **made.metrics}.items()},
    }


def _check_coverage(made: Conversion, options: ConvertOptions) -> None:
    """Refuse a model of whose compute less than asked for lies in the core."""
    if made.core_coverage < options.min_coverage:
        parts = [part for part in made.plan.parts if part.name != "core"]
        why = [f"{part.name}: {reason}" for part in parts for reason in part.unsupported or ["nothing is left"]]
        share = f"{100 * made.core_coverage:.1f} % of the compute lies in the core"
        raise CoverageRefusedError(
            f"--min-coverage {options.min_coverage:g}: {share}",
            details=why,
            hint="take what is listed out of the signature, or ask for less",
        )
