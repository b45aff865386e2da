"""Comparison of a converted model's outputs with TensorFlow's, on real examples or synthetic inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from tpu2gpu.errors import ConversionError, ExamplesError, ParityRefusedError, first_line
from tpu2gpu.running.arrays import Array, is_float
from tpu2gpu.running.comparison.aligned_detections import align_detections
from tpu2gpu.running.comparison.detections import find_detections, match_boxes, read_detections
from tpu2gpu.running.comparison.parity import OutputParity, compare, differing_forms
from tpu2gpu.running.runner import Runner
from tpu2gpu.trt_converter.feeds import Feeds, run_reference, save_reference, saved_feeds, saved_outputs

_LEAST_SCORE = 1e-9  # rows behind the last detection have none

Settle = Callable[[str, Mapping[str, Array], Mapping[str, Array], dict[str, dict[str, Any]]], dict[str, dict[str, Any]]]
"""What may settle a batch: its kind, the feeds, the reference's outputs, the figures -> the figures that count."""


def compare_models(
    reference: Runner,
    candidate: Runner,
    names: Mapping[str, Mapping[str, str]],
    feeds: Feeds,
    folder: Path,
    settle: Settle | None = None,
    find_missed: Callable[[Sequence[Mapping[str, Array]]], Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Run both models and compare them.

    Args:
        reference: The source.
        candidate: The converted model.
        names: The candidate's names of inputs and outputs.
        feeds: What to run them on.
        folder: Where to leave feeds and the reference's outputs, for other back ends to be compared with.
        settle: Told of every batch, and returns the figures that count.
        find_missed: Names what some batches did not reach.

    Returns:
        `parity` for each output, at its worst; `compared_on`; and `batched`, whether the first dimension of every
        input and output is the batch.

    Raises:
        ExamplesError: The source itself does not run on the feeds, or gives nothing.
        ParityRefusedError: Outputs differ in name, shape or type.
    """
    feeds, outputs = run_reference(reference, feeds)
    missed = find_missed(feeds.batches) if find_missed is not None else ()
    feeds = attrs.evolve(feeds, not_exercised=(*always_empty(outputs), *missed))
    check_values(outputs, feeds.origin)
    check_finite(outputs, feeds.origin)
    results = []
    batched = all(spec.shape and spec.shape[0] is None for spec in reference.inputs)
    for position, (batch, wanted) in enumerate(zip(feeds.batches, outputs, strict=True)):
        save_reference(folder, position, batch, wanted)
        figures = _compare_batch(wanted, candidate, names, batch, feeds.kind(position))
        results.append(settle(feeds.kind(position), batch, wanted, figures) if settle else figures)
        size = len(next(iter(batch.values()))) if batched else 0
        batched = batched and all(array.ndim and len(array) == size for array in wanted.values())
    return {
        "parity": worst_of(results),
        "compared_on": feeds.compared_on,
        "feeds": feeds.describe(),
        "batched": batched,
        "observed_ranks": {name: array.ndim for name, array in outputs[0].items()},
    }


def always_empty(outputs: Sequence[Mapping[str, Array]]) -> list[str]:
    """Describe the outputs that are empty for all batches, and so are not compared."""
    first = outputs[0]
    empty = (name for name in first if not any(batch[name].size for batch in outputs))
    return [f"output {name}: always empty, {list(first[name].shape)} for one" for name in empty]


def check_values(outputs: Sequence[Mapping[str, Array]], origin: str) -> None:
    """Refuse a comparison in which all outputs are empty for all batches.

    Raises:
        ExamplesError: They are, so that nothing would be compared.
    """
    empty = always_empty(outputs)
    if empty and len(empty) == len(outputs[0]):
        raise ExamplesError(
            f"the source gives nothing on {origin}: every output is empty, so that nothing can be compared",
            details=empty,
            hint="give --examples for which it gives something, or larger sizes with --profile",
        )


def check_finite(outputs: Sequence[Mapping[str, Array]], origin: str) -> None:
    """Refuse a comparison in which the source itself gives nothing but NaN and Inf for an output.

    Raises:
        ExamplesError: It does; all such outputs are listed.
    """
    floats = [name for name, array in outputs[0].items() if is_float(array.dtype)]
    empty = [name for name in floats if not any(_finite_count(batch[name]) for batch in outputs)]
    if wrong := [name for name in empty if any(batch[name].size for batch in outputs)]:
        raise ExamplesError(
            f"the source itself gives nothing but NaN and Inf on {origin}, so that nothing can be compared",
            details=[f"output {name}" for name in wrong],
            hint="give --examples of data for which it gives numbers",
        )


def _finite_count(array: Array) -> int:
    return int(np.count_nonzero(np.isfinite(array.astype(np.float64))))


def compare_saved(
    candidate: Runner, names: Mapping[str, Mapping[str, str]], folder: Path, *, suppresses: bool = False
) -> dict[str, Any]:
    """Compare a model with the reference outputs that `compare_models` left.

    Args:
        candidate: The model.
        names: Its names of inputs and outputs.
        folder: Where the reference's outputs lie.
        suppresses: Whether it suppresses boxes in a way of its own, so that boxes are to be matched.
    """
    results = []
    compared = compare_detections if suppresses else compare_outputs
    for position, batch in enumerate(saved_feeds(folder).batches):
        results.append(_compare_batch(saved_outputs(folder, position), candidate, names, batch, compared=compared))
    return {"parity": worst_of(results)}


def _compare_batch(
    wanted: Mapping[str, Array],
    candidate: Runner,
    names: Mapping[str, Mapping[str, str]],
    batch: Mapping[str, Array],
    kind: str = "",
    compared: Callable[[Mapping[str, Array], Mapping[str, Array]], dict[str, dict[str, Any]]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Run a candidate on one batch and compare it with the reference's outputs."""
    given = {names["inputs"][name]: array for name, array in batch.items()}
    try:
        found = candidate.run(given)
    except Exception as error:  # libraries raise what they like
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in batch.items())
        raise ConversionError(
            f"the converted model does not run where the source does, on {kind or 'a'} batch ({shapes})",
            details=[first_line(error)],
        ) from error
    return (compared or compare_outputs)(wanted, {name: found[names["outputs"][name]] for name in wanted})


def compare_detections(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> dict[str, dict[str, Any]]:
    """Compare outputs with the reference's, those that hold boxes by matching the boxes, whatever their order.

    Returns:
        What `compare_outputs` says; the `error` of a detector's outputs is what the matched boxes lack of their mean
        IoU, or the largest difference of their scores, whichever is more.
    """
    figures = compare_outputs(wanted, found)
    detections = find_detections(wanted, {})
    if detections is None:
        return figures
    matched = match_boxes(read_detections(wanted, detections), read_detections(found, detections), -np.inf)
    error = max(1 - matched.mean_iou, matched.max_score_error)
    of_boxes = {"error": error, "mean_iou": matched.mean_iou, "max_score_error": matched.max_score_error}
    return {name: {**each, **(of_boxes if name in detections.names else {})} for name, each in figures.items()}


def compare_outputs(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> dict[str, dict[str, Any]]:
    """Compare outputs with the reference's.

    Returns:
        For each output what `compare` says, its `error`, and for outputs of no floating-point type `unequal_share`.
    """
    return {name: _figures(parity, wanted[name], found[name]) for name, parity in compare(wanted, found).items()}


def compare_box_by_box(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> dict[str, dict[str, Any]]:
    """Compare outputs with the reference's, detections in the reference's order.

    Boxes of nearly the same score may stand in either order; their scores are compared row by row as well, so that
    scores in another order are seen.

    Returns:
        What `compare_outputs` says of them.
    """
    names = find_detections(wanted, {})
    if names is None or names.scores is None or differing_forms(wanted, found):
        return compare_outputs(wanted, found)
    aligned = align_detections(wanted, found, names, _LEAST_SCORE)
    scores = names.scores
    errors = [np.abs(it[scores] - wanted[scores]) for it in (aligned, found)]
    aligned[scores] = np.where(errors[0] > errors[1], aligned[scores], found[scores])
    return compare_outputs(wanted, {**aligned, **({names.count: found[names.count]} if names.count else {})})


def worst_of(results: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return the worst of several comparisons, for each output."""
    return {
        name: dict(max((result[name] for result in results), key=lambda figures: float(figures["error"])))
        for name in results[0]
    }


def check_parity(
    parity: Mapping[str, Mapping[str, Any]], tolerance: float, what: str, findings: Sequence[str] = ()
) -> float:
    """Refuse outputs that differ by more than the tolerance.

    Args:
        parity: What `compare_outputs` says of each output.
        tolerance: The largest relative error allowed.
        what: What gave the outputs, for the message.
        findings: What was found out about the reason.

    Returns:
        The largest error.

    Raises:
        ParityRefusedError: An output differs by more; all such outputs are listed.
    """
    wrong = [
        f"{name}: {figures['error']:.3g} at example {figures['worst_example']}, element {figures['worst_element']}"
        + (f", {figures['nan_count']} NaN and {figures['inf_count']} Inf" * bool(_holes(figures)))
        for name, figures in parity.items()
        if _holes(figures) or not figures["error"] <= tolerance
    ]
    if wrong:
        raise ParityRefusedError(
            f"the outputs of {what} differ from the source's by more than {tolerance:g} of the largest value",
            details=[*wrong, *findings],
            hint="compare on real data with --examples, or allow more with --tolerance",
        )
    return max(float(figures["error"]) for figures in parity.values())


def _holes(figures: Mapping[str, Any]) -> int:
    return int(figures["nan_count"]) + int(figures["inf_count"])


def _figures(parity: OutputParity, wanted: Array, found: Array) -> dict[str, Any]:
    """Return the figures of one output; errors of floats are relative to the largest, others the share that differs."""
    figures = attrs.asdict(parity)
    if is_float(wanted.dtype):
        figures["source_non_finite"] = wanted.size - _finite_count(wanted)
        return {**figures, "error": parity.relative_error}
    unequal = float(np.mean(wanted != found)) if wanted.size else 0.0
    return {**figures, "error": unequal, "unequal_share": unequal}
