"""How right a model is by the examples' labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from tpu2gpu.errors import ExamplesError
from tpu2gpu.running.error_sketch import TOP, best_classes, is_class_scores

Array = npt.NDArray[Any]


@attrs.frozen
class ClassCounts:
    """How often a classifier was right; `a + b` counts both parts' examples.

    Attributes:
        examples: How many had a label.
        right: Those whose largest score is at the label.
        among_five: Those whose label is among the five largest scores; None where there are no more than five classes.
    """

    examples: int = 0
    right: int = 0
    among_five: int | None = None

    def __add__(self, other: ClassCounts) -> ClassCounts:
        """The counts of both parts' examples."""
        five = [part.among_five for part in (self, other) if part.among_five is not None]
        return ClassCounts(self.examples + other.examples, self.right + other.right, sum(five) if five else None)

    @property
    def accuracy(self) -> float | None:
        """Share of the examples whose largest score is at their label; None without examples."""
        return self.right / self.examples if self.examples else None

    @property
    def top5_accuracy(self) -> float | None:
        """Share of the examples whose label is among the five largest scores."""
        return self.among_five / self.examples if self.examples and self.among_five is not None else None


def count_right(outputs: Mapping[str, Array], labels: Array | None) -> ClassCounts:
    """How often the first output that holds class scores is right; nothing without labels or such an output."""
    if labels is None or (name := scores_output(outputs, len(labels))) is None:
        return ClassCounts()
    scores = outputs[name].astype(np.float64)
    right = int(np.sum(np.argmax(scores, axis=1) == labels))
    if scores.shape[1] <= TOP:
        return ClassCounts(len(labels), right)
    return ClassCounts(len(labels), right, int(np.sum(best_classes(scores) == labels[:, None])))


def scores_output(outputs: Mapping[str, Array], count: int) -> str | None:
    """The output that holds a classifier's scores: the first that is floating point, [count, classes]."""
    return next((name for name, array in outputs.items() if is_class_scores(array) and len(array) == count), None)


def check_labels(outputs: Mapping[str, Array], labels: Array | None) -> None:
    """Checks that the labels are class numbers of the model.

    Raises:
        ExamplesError: They are not.
    """
    if labels is None or (name := scores_output(outputs, len(labels))) is None:
        return
    classes = outputs[name].shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise ExamplesError(
            f"the labels go from {labels.min()} to {labels.max()}, but output {name} has {classes} classes, from 0",
            way_out="--label names another feature",
        )
