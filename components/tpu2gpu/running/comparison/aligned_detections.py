"""Detections of two models row by row: what was found in another order is put into the reference's.

Rounding swaps boxes of nearly the same score, lets one at the threshold in or out, and moves all rows below it. Row by
row such outputs differ by whole boxes, where the models agree.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tpu2gpu.running.arrays import Array
from tpu2gpu.running.comparison.detections import DetectionOutputs, pair_boxes, read_detections


def align_detections(
    wanted: Mapping[str, Array], found: Mapping[str, Array], names: DetectionOutputs, threshold: float
) -> dict[str, Array]:
    """Return a model's outputs with its detections in the rows of those that they match in the reference's.

    A box of the reference that nothing matches, and one that was found beside the reference's, cost as much as their
    score would have to change: all of it, or in a list that is full what it is above the last one's. All else is as in
    the reference: boxes of smaller scores than the threshold are no errors.

    Args:
        wanted: The reference's outputs, all of them.
        found: The model's.
        names: Which of them hold detections; packed ones are left as they are.
        threshold: The smallest score of a box that counts.
    """
    if names.scores is None:
        return dict(found)
    parts = [name for name in (names.boxes, names.scores, names.classes) if name]
    aligned = {**found, **{name: np.array(wanted[name]) for name in (*parts, *filter(None, [names.count]))}}
    pairs = zip(read_detections(wanted, names), read_detections(found, names), strict=True)
    for example, (ours, theirs) in enumerate(pairs):
        rows, columns, _ = pair_boxes(ours, theirs, threshold)
        for name in parts:
            aligned[name][example, rows] = found[name][example, columns]
        scores, before = aligned[names.scores][example], wanted[names.scores][example]
        lowest = [_lowest(it.scores, len(scores)) for it in (ours, theirs)]
        for row in np.setdiff1d(np.flatnonzero(ours.scores >= threshold), rows):
            scores[row] = min(before[row], lowest[1])
        for column in np.setdiff1d(np.flatnonzero(theirs.scores >= threshold), columns):
            row = int(np.argmin(np.abs(scores - before)))  # a box too many has no row of its own
            scores[row] = before[row] + max(theirs.scores[column] - lowest[0], 0)
    return aligned


def _lowest(scores: Array, rows: int) -> float:
    """Return the score that a box must have to be in a list: the last one's where the list is full."""
    return float(scores.min()) if len(scores) == rows else 0.0
