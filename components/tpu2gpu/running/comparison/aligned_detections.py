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

    A row of the reference that counts and that nothing matches gets zeros, so that its whole score is the difference;
    what was found beside the reference's, and counts, takes the rows of boxes that do not. All else is as in the
    reference: boxes of smaller scores are no errors.

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
        counted = np.flatnonzero(ours.scores >= threshold)
        lost = np.setdiff1d(counted, rows)
        extra = np.setdiff1d(np.flatnonzero(theirs.scores >= threshold), columns)
        free = np.setdiff1d(np.arange(wanted[names.scores].shape[1]), [*rows, *counted])[: len(extra)]
        for name in parts:
            aligned[name][example, lost] = 0
            aligned[name][example, rows] = found[name][example, columns]
            aligned[name][example, free] = found[name][example, extra[: len(free)]]
    return aligned
