"""How far a model's outputs agree with the reference's, in a record that adds up over parts of the examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from tpu2gpu.latency_evaluator.accuracy.average_precision import AveragePrecision, match_ground_truth
from tpu2gpu.latency_evaluator.accuracy.task_metrics import ClassCounts, count_right, find_scores
from tpu2gpu.latency_evaluator.options import OutputOptions
from tpu2gpu.running.arrays import Array, is_text
from tpu2gpu.running.comparison.detections import (
    BoxParity,
    Detections,
    find_detections,
    match_boxes,
    read_detections,
)
from tpu2gpu.running.comparison.error_sketch import ErrorSketch, sketch_errors
from tpu2gpu.running.comparison.parity import OutputParity, differing_forms
from tpu2gpu.running.comparison.variety import (
    ExampleVariety,
    OutputVariety,
    examples_variety,
    output_variety,
)
from tpu2gpu.running.examples.box_labels import BoxLabels


@attrs.frozen(kw_only=True)
class Agreement:
    """A model's outputs to some examples, compared; `a + b` is that of both parts' examples.

    Attributes:
        examples: How many examples were compared.
        outputs: The errors of each output against the reference's; empty for the reference itself.
        boxes: How well boxes match the reference's; None where no output holds detections.
        box_outputs: The outputs that hold detections: they are matched, not compared element by element.
        right: How often the model's classes are those of the labels.
        average_precision: How precise its detections are; None without ground-truth boxes.
        variety: How much each output varies over the examples.
        examples_variety: How much the examples and their labels vary; told by the reference only.
        non_finite: NaN and Inf in the outputs; counted for the reference only.
        differences: What kept the outputs from being compared.
        failure: What happened when the model did not run.
    """

    examples: int = 0
    outputs: Mapping[str, ErrorSketch] = attrs.field(factory=dict)
    boxes: BoxParity | None = None
    box_outputs: tuple[str, ...] = ()
    right: ClassCounts = ClassCounts()
    average_precision: AveragePrecision | None = attrs.field(default=None, eq=False)
    variety: Mapping[str, OutputVariety] = attrs.field(factory=dict)
    examples_variety: ExampleVariety | None = None
    non_finite: int = 0
    differences: tuple[str, ...] = ()
    failure: str | None = None

    def __add__(self, other: Agreement) -> Agreement:
        """Return the agreement over both parts' examples."""
        names = dict.fromkeys((*self.outputs, *other.outputs))
        boxes = [part.boxes for part in (self, other) if part.boxes is not None]
        varieties = [part.examples_variety for part in (self, other) if part.examples_variety is not None]
        precisions = [part.average_precision for part in (self, other) if part.average_precision is not None]
        return Agreement(
            examples=self.examples + other.examples,
            outputs={
                name: self.outputs.get(name, ErrorSketch()) + other.outputs.get(name, ErrorSketch()) for name in names
            },
            boxes=sum(boxes, start=BoxParity()) if boxes else None,
            box_outputs=self.box_outputs or other.box_outputs,
            right=self.right + other.right,
            average_precision=sum(precisions, start=AveragePrecision()) if precisions else None,
            variety={
                name: self.variety.get(name, OutputVariety()) + other.variety.get(name, OutputVariety())
                for name in dict.fromkeys((*self.variety, *other.variety))
            },
            examples_variety=sum(varieties, start=ExampleVariety()) if varieties else None,
            non_finite=self.non_finite + other.non_finite,
            differences=tuple(dict.fromkeys((*self.differences, *other.differences))),
            failure=self.failure or other.failure,
        )

    @property
    def parity(self) -> dict[str, OutputParity]:
        """Figures of each output; none where some cannot be compared."""
        if self.differences:
            return {}
        return {name: OutputParity.of(sketch) for name, sketch in self.outputs.items()}

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**attrs.asdict(self), "average_precision": self.average_precision and self.average_precision.to_json()}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Agreement:
        """Read `to_json`'s data back, from JSON too."""
        outputs = {
            name: ErrorSketch(**{**sketch, "worst_element": tuple(sketch["worst_element"])})
            for name, sketch in told["outputs"].items()
        }
        precision = told["average_precision"]
        variety = {
            name: OutputVariety(**{**one, "values": tuple(one["values"]), "best": tuple(one["best"])})
            for name, one in told["variety"].items()
        }
        return cls(
            **{
                **told,
                "outputs": outputs,
                "variety": variety,
                "examples_variety": told["examples_variety"] and ExampleVariety.from_json(told["examples_variety"]),
                "boxes": told["boxes"] and BoxParity(**told["boxes"]),
                "box_outputs": tuple(told["box_outputs"]),
                "right": ClassCounts(**told["right"]),
                "average_precision": precision and AveragePrecision.from_json(precision),
                "differences": tuple(told["differences"]),
            }
        )


class ReferenceOutputs:
    """The reference's outputs to some examples, which every candidate's are compared with.

    Args:
        outputs: The reference's outputs by name.
        labels: The examples' class ids, where they have some.
        options: How outputs are to be read.
        feeds: The examples themselves, by the inputs' names.
        ground_truth_boxes: The examples' ground-truth boxes, where they have some.
        first_example: Number of the first example.

    Raises:
        UsageError: The options name outputs that the reference does not have.
        ExamplesError: The labels are no class ids of the reference.
    """

    def __init__(
        self,
        outputs: Mapping[str, Array],
        labels: Array | None,
        options: OutputOptions,
        feeds: Mapping[str, Array] | None = None,
        *,
        ground_truth_boxes: Sequence[BoxLabels] | None = None,
        first_example: int = 0,
    ) -> None:
        self._outputs, self._labels, self._options, self._feeds = outputs, labels, options, feeds
        self._ground_truth, self._first_example = ground_truth_boxes, first_example
        self._examples = max((len(array) for array in outputs.values() if array.ndim), default=1)
        self._detection_outputs = find_detections(outputs, options.named_detections())
        self._box_outputs = self._detection_outputs.names if self._detection_outputs else ()
        # A detector's scores are not those of classes.
        classes = {name: array for name, array in outputs.items() if name not in self._box_outputs}
        self._of_labels, self._scored = find_scores(classes, labels, options.scores)
        self._detections = self._read_detections(outputs)

    def own(self) -> Agreement:
        """Return how right the reference itself is, by labels and ground-truth boxes."""
        return Agreement(
            examples=self._examples,
            box_outputs=self._box_outputs,
            right=self._count_right(self._outputs),
            average_precision=self._average_precision(self._detections),
            variety=self._variety(self._outputs),
            examples_variety=self._examples_variety(),
            non_finite=count_non_finite(self._outputs),
        )

    def compare(self, outputs: Mapping[str, Array]) -> Agreement:
        """Compare a candidate's outputs to the same examples."""
        right = self._count_right(outputs)
        one = Agreement(examples=self._examples, box_outputs=self._box_outputs, right=right)
        if differences := differing_forms(self._outputs, outputs):
            return attrs.evolve(one, differences=tuple(differences))
        sketches = {
            name: sketch_errors(np.asarray(array), outputs[name], self._first_example)
            for name, array in self._outputs.items()
        }
        sketches |= {
            name: attrs.evolve(sketch, scored=0) for name, sketch in sketches.items() if name not in self._scored
        }
        one = attrs.evolve(one, variety=self._variety(outputs))
        detections = self._read_detections(outputs)
        if self._detections is None or detections is None:
            return attrs.evolve(one, outputs=sketches)
        return attrs.evolve(
            one,
            outputs=sketches,
            boxes=match_boxes(self._detections, detections, self._options.box_score, self._first_example),
            average_precision=self._average_precision(detections),
        )

    def _variety(self, outputs: Mapping[str, Array]) -> dict[str, OutputVariety]:
        sure = (self._of_labels, *self._options.scores)
        return {name: output_variety(np.asarray(array), of_classes=name in sure) for name, array in outputs.items()}

    def _examples_variety(self) -> ExampleVariety | None:
        if self._feeds is None:
            return None
        labels = self._labels if self._of_labels is not None else None
        return examples_variety(self._feeds, labels, self._options.different_examples)

    def _count_right(self, outputs: Mapping[str, Array]) -> ClassCounts:
        return count_right(outputs.get(self._of_labels or ""), self._labels)

    def _read_detections(self, outputs: Mapping[str, Array]) -> list[Detections] | None:
        if self._detection_outputs is None:
            return None
        return read_detections(outputs, self._detection_outputs, self._options.box_format)

    def _average_precision(self, detections: list[Detections] | None) -> AveragePrecision | None:
        if detections is None or self._ground_truth is None:
            return None
        return match_ground_truth(detections, self._ground_truth, self._options.box_format, self._first_example)


def count_non_finite(outputs: Mapping[str, Array]) -> int:
    """Count NaN and Inf in some outputs."""
    return sum(int(np.sum(~np.isfinite(array.astype(np.float64)))) for array in outputs.values() if not is_text(array))
