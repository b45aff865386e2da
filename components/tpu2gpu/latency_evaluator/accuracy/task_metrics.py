"""How often a model is right by the examples' labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from tpu2gpu.additive import added, merged_figures
from tpu2gpu.errors import ExamplesError, UsageError
from tpu2gpu.options import did_you_mean, flag
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.comparison.error_sketch import TOP, best_classes, is_class_scores


@attrs.frozen
class ClassCounts:
    """How often a classifier was right; `a + b` counts both parts' examples.

    Attributes:
        examples: How many had a label.
        right: Those whose largest score is at the label.
        among_five: Those whose label is among the five largest scores; None where there are no more than five classes.
    """

    examples: int = added()
    right: int = added()
    among_five: int | None = added(None)

    def __add__(self, other: ClassCounts) -> ClassCounts:
        """Return the counts of both parts' examples."""
        return ClassCounts(**merged_figures(self, other))

    @property
    def accuracy(self) -> float | None:
        """Share of the examples whose largest score is at their label; None without examples."""
        return self.right / self.examples if self.examples else None

    @property
    def top5_accuracy(self) -> float | None:
        """Share of the examples whose label is among the five largest scores."""
        return self.among_five / self.examples if self.examples and self.among_five is not None else None


def find_scores(
    outputs: Mapping[str, Array], labels: Array | None, named: Sequence[str] = ()
) -> tuple[str | None, list[str]]:
    """Find the outputs of a classifier.

    Args:
        outputs: All outputs, in floating point `[examples, classes]` where they hold class scores.
        labels: The examples' class ids, where they have some.
        named: The outputs that hold class scores, the first of them those of the labels' classes.

    Returns:
        The output that labels are held against, where there are labels: without a name, of those with room for all
        labels the one that is most often right. And the outputs whose best classes count: the named ones, else that
        one, else all.

    Raises:
        UsageError: A named output holds no class scores.
        ExamplesError: The labels are no class ids of the model.
    """
    scores = {name: array for name, array in outputs.items() if is_class_scores(array)}
    if unknown := [name for name in named if name not in scores]:
        raise UsageError(
            f"{flag('scores')} {unknown[0]}: no output of that name holds numbers [examples, classes]",
            hint=did_you_mean(unknown[0], scores) or "name one of " + ", ".join(scores),
        )
    fitting = [name for name in named[:1] or scores if labels is not None and len(scores[name]) == len(labels)]
    if labels is None or not fitting:
        return None, list(named or scores)
    roomy = [name for name in fitting if labels.min() >= 0 and labels.max() < scores[name].shape[1]]
    if not roomy:
        widest = max(fitting, key=lambda name: scores[name].shape[1])
        raise ExamplesError(
            f"the labels go from {labels.min()} to {labels.max()}, but output {widest} has {scores[widest].shape[1]} "
            "classes, from 0",
            hint="--label names another feature, --scores another output",
        )
    found = max(roomy, key=lambda name: count_right(scores[name], labels).right)
    return found, list(named or [found])


def count_right(scores: Array | None, labels: Array | None) -> ClassCounts:
    """Count how often class scores, `[examples, classes]`, are right; nothing without labels or scores."""
    if labels is None or scores is None or not is_class_scores(scores) or len(scores) != len(labels):
        return ClassCounts()
    right = int(np.sum(np.argmax(scores.astype(np.float64), axis=1) == labels))
    if scores.shape[1] <= TOP:
        return ClassCounts(len(labels), right)
    return ClassCounts(len(labels), right, int(np.sum(best_classes(scores) == labels[:, None])))
