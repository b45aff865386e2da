"""`evaluate_model`: measure candidates against a reference on real examples, and bless or refuse them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpu2gpu.errors import ManifestError, UsageError
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.latency_evaluator.results import EvaluateResult
from tpu2gpu.options import flag
from tpu2gpu.progress import Progress, silent
from tpu2gpu.running.examples.python_examples import ExamplesLike, as_files, is_nothing
from tpu2gpu.storage.publishing import check_free, describe_source, name_of, publish_step


def evaluate_model(
    reference: str | os.PathLike[str],
    candidates: Sequence[str | os.PathLike[str]],
    examples: ExamplesLike,
    target: str | os.PathLike[str],
    options: EvaluateOptions | None = None,
    *,
    incumbent: str | os.PathLike[str] | None = None,
    force: bool = False,
    name: str = "",
    run_name: str = "",
    progress: Progress | None = None,
) -> EvaluateResult:
    """Measure candidates against a reference on real examples, and bless or refuse them.

    A candidate that crashes, hangs, computes other outputs or is too slow is refused, and the reason is the result.
    Only a reference that does not run and examples that do not fit raise.

    Args:
        reference: The model that the candidates were made from, which is held to be right: a SavedModel, a frozen
            GraphDef, an ONNX file, a serving folder, a server's address (`triton+grpc://host:8001/digits`), or a file
            that says how to start a server.
        candidates: The models in question; with several, the fastest that passes is chosen.
        examples: Files of examples: paths, globs or folders; or arrays by name, or an iterable of examples, such as a
            tf.data.Dataset; none where the options ask for synthetic ones.
        target: The output folder: report.html, report.md and report.json, page.json, summary.json, metrics.json,
            verdict.json, latencies.npz and histograms.json (HdrHistogram's text of each, which adds up over runs).
        options: What to measure, and the budgets.
        incumbent: What is promoted now, on which no candidate may fall behind. None, and one that does not run any
            more or has another signature, leaves these budgets not applicable, and the report says so.
        force: Replace an existing output.
        name: What the models are forms of, for headings.
        run_name: Name of the run, for the manifest.
        progress: Told how far it is.

    Returns:
        The verdict and all figures.

    Raises:
        UsageError: An option does not fit, or the target exists.
        SourceError: A path is missing, or the reference does not run.
        TrustRefusedError: The reference would do more than compute; nothing of it was run.
        ExamplesError: The examples are missing, damaged or do not fit the reference.
        RemoteRunError: The Beam runner failed.
    """
    options = options or EvaluateOptions()
    progress = progress or silent
    paths = [os.fspath(candidate) for candidate in candidates]
    if not paths:
        raise UsageError("no candidate was given", hint="give the folder of at least one")
    if is_nothing(examples) != bool(options.synthetic):
        raise UsageError(
            f"{flag('examples')} and {flag('synthetic')}: one of them is needed, and only one",
            hint="give real examples wherever there are some",
        )
    if options.runner and options.synthetic:
        raise UsageError(
            f"{flag('synthetic')} with {flag('runner')}: there are no files that Beam's workers could read",
            hint=f"leave {flag('runner')} out",
        )
    check_free(Path(target), force=force)
    more = {
        "incumbent": None if incumbent is None else _describe(incumbent),
        "candidates": [_describe(path) for path in paths],
    }
    with publish_step(
        "evaluate", _describe(reference), target, options, force=force, run_name=run_name, more=more
    ) as staging:
        from tpu2gpu.latency_evaluator.evaluation_run import compare_models
        from tpu2gpu.latency_evaluator.report.write import write_reports

        other = None if incumbent is None else os.fspath(incumbent)
        beside = Path(target).absolute().parent
        with as_files(examples, options.max_examples) as files:
            evaluation = compare_models(os.fspath(reference), other, paths, files, options, progress, beside)
        return write_reports(evaluation, options, staging, Path(target), name)


def _describe(model: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe a model for the manifest: its name, and its digest where it has one that can be read."""
    from tpu2gpu.running.servers.addresses import is_address

    if is_address(model):
        return {"path": os.fspath(model), "digest": None}
    try:
        return describe_source(model)
    except ManifestError:  # of a candidate a finding, which the verdict tells
        return {"path": name_of(model), "digest": None}
