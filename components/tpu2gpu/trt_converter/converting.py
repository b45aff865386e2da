"""`convert_model`: a SavedModel becomes a folder that a server loads."""

from __future__ import annotations

import os
from pathlib import Path

from tpu2gpu.errors import SourceError
from tpu2gpu.progress import Progress, silent
from tpu2gpu.trt_converter.options import ConvertOptions, ConvertResult


def convert_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: ConvertOptions | None = None,
    *,
    force: bool = False,
    run_name: str = "",
    progress: Progress = silent,
) -> ConvertResult:
    """Convert a SavedModel to ONNX, and to a TensorRT engine where one can be built, and lay them out for a server.

    Nothing is written that does not answer as the source does: every operation is known, the ONNX file is sound, ONNX
    Runtime runs it, and its answers on examples stay within the tolerance of TensorFlow's.

    Args:
        source: The SavedModel's folder; frozen or with variables, of TensorFlow 1 or 2.
        target: The serving folder to write.
        options: How to convert.
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
        ExamplesError: The examples do not fit the model.
        UnsupportedError: A case that this version does not do.
        EnvironmentLacksError: The asked back end is not here, or a process of it died, hung or outgrew its limit.
    """
    from tpu2gpu.storage.publishing import check_free, describe_source, publish_step
    from tpu2gpu.trt_converter.backends.choice import choose_backend
    from tpu2gpu.trt_converter.request import Request
    from tpu2gpu.trt_converter.steps import convert_into

    options = options or ConvertOptions()
    if options.backend == "tf_trt":
        from tpu2gpu.trt_converter.backends.tf_trt.backend import convert_into
    source, target = Path(source), Path(target)
    _check_source(source)
    check_free(target, force=force)
    request = Request.of(source, options, choose_backend(options))
    with publish_step("convert", describe_source(source), target, options, force=force, run_name=run_name) as staging:
        findings = convert_into(staging, request, progress)
    return ConvertResult(target=target, report=staging.report, **findings)


def _check_source(source: Path) -> None:
    """What can be said of a source without loading TensorFlow."""
    if not source.exists():
        raise SourceError(f"{source}: no such folder", hint="give a SavedModel's folder")
    if not (source / "saved_model.pb").is_file():
        inner = next((path.parent for path in sorted(source.glob("*/saved_model.pb"))), None)
        hint = f"did you mean {inner}?" if inner else "give the folder that holds saved_model.pb"
        raise SourceError(f"{source}: not a SavedModel (saved_model.pb is missing)", hint=hint)
