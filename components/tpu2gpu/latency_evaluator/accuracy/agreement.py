"""What a candidate's answers come to beside the baseline's, in a record that adds up over parts of the examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from tpu2gpu.latency_evaluator.accuracy.average_precision import PrecisionSketch, sketch_precision
from tpu2gpu.latency_evaluator.accuracy.task_metrics import ClassCounts, count_right, find_scores
from tpu2gpu.latency_evaluator.options import AnswerOptions
from tpu2gpu.running.arrays import is_text
from tpu2gpu.running.comparison.detections import BoxParity, find_detections, match_boxes, read_detections
from tpu2gpu.running.comparison.error_sketch import ErrorSketch, sketch_errors
from tpu2gpu.running.comparison.parity import OutputParity, differing_forms
from tpu2gpu.running.examples.box_labels import BoxLabels

Array = npt.NDArray[Any]

_PRECISIONS = ("baseline_precision", "candidate_precision")


@attrs.frozen(kw_only=True)
class Agreement:
    """A candidate's answers beside the baseline's to some examples; `a + b` is that of both parts' examples.

    Attributes:
        examples: How many examples were compared.
        outputs: The errors of each output.
        boxes: How well boxes match; None where no output holds detections.
        box_outputs: The outputs that hold detections: they are matched, not compared element by element.
        baseline_right: How often the baseline is right.
        candidate_right: How often the candidate is.
        baseline_precision: How precise the baseline's detections are; None without ground-truth boxes.
        candidate_precision: How precise the candidate's are.
        odd_baseline: NaN and Inf in the baseline's own outputs.
        differences: What kept the outputs from being compared.
        failure: What happened when the candidate did not answer.
    """

    examples: int = 0
    outputs: Mapping[str, ErrorSketch] = attrs.field(factory=dict)
    boxes: BoxParity | None = None
    box_outputs: tuple[str, ...] = ()
    baseline_right: ClassCounts = ClassCounts()
    candidate_right: ClassCounts = ClassCounts()
    baseline_precision: PrecisionSketch | None = attrs.field(default=None, eq=False)
    candidate_precision: PrecisionSketch | None = attrs.field(default=None, eq=False)
    odd_baseline: int = 0
    differences: tuple[str, ...] = ()
    failure: str | None = None

    def __add__(self, other: Agreement) -> Agreement:
        """The agreement over both parts' examples."""
        names = dict.fromkeys((*self.outputs, *other.outputs))
        boxes = [part.boxes for part in (self, other) if part.boxes is not None]
        return Agreement(
            examples=self.examples + other.examples,
            outputs={
                name: self.outputs.get(name, ErrorSketch()) + other.outputs.get(name, ErrorSketch()) for name in names
            },
            boxes=sum(boxes, start=BoxParity()) if boxes else None,
            box_outputs=self.box_outputs or other.box_outputs,
            baseline_right=self.baseline_right + other.baseline_right,
            candidate_right=self.candidate_right + other.candidate_right,
            baseline_precision=_sum(self.baseline_precision, other.baseline_precision),
            candidate_precision=_sum(self.candidate_precision, other.candidate_precision),
            odd_baseline=self.odd_baseline + other.odd_baseline,
            differences=tuple(dict.fromkeys((*self.differences, *other.differences))),
            failure=self.failure or other.failure,
        )

    @property
    def parity(self) -> dict[str, OutputParity]:
        """The figures of each output; nothing where some cannot be compared."""
        if self.differences:
            return {}
        return {name: OutputParity.of(sketch) for name, sketch in self.outputs.items()}

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        sketches = {name: getattr(self, name) for name in _PRECISIONS}
        return attrs.asdict(self) | {name: sketch and sketch.to_json() for name, sketch in sketches.items()}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Agreement:
        """Read `to_json`'s data back, from JSON too."""
        outputs = {
            name: ErrorSketch(**{**sketch, "worst_element": tuple(sketch["worst_element"])})
            for name, sketch in told["outputs"].items()
        }
        return cls(
            **{
                **told,
                "outputs": outputs,
                "boxes": told["boxes"] and BoxParity(**told["boxes"]),
                "box_outputs": tuple(told["box_outputs"]),
                "baseline_right": ClassCounts(**told["baseline_right"]),
                "candidate_right": ClassCounts(**told["candidate_right"]),
                "differences": tuple(told["differences"]),
                **{name: told[name] and PrecisionSketch.from_json(told[name]) for name in _PRECISIONS},
            }
        )


def compare_answers(
    wanted: Mapping[str, Array],
    found: Mapping[str, Array],
    labels: Array | None,
    options: AnswerOptions,
    *,
    ground_truth_boxes: Sequence[BoxLabels] | None = None,
    first_example: int = 0,
) -> Agreement:
    """Compare the answers of two models to the same examples.

    Args:
        wanted: The baseline's outputs by name.
        found: The candidate's.
        labels: The examples' class ids, where they have some.
        options: How outputs are to be read.
        ground_truth_boxes: The examples' ground-truth boxes, where they have some.
        first_example: Number of the first example.

    Raises:
        UsageError: The options name outputs that the baseline does not have.
        ExamplesError: The labels are no class ids of the baseline.
    """
    names = find_detections(wanted, options.named_detections())
    apart = names.names if names else ()  # a detector's scores are not those of classes
    classes = {name: array for name, array in wanted.items() if name not in apart}
    of_labels, scored = find_scores(classes, labels, options.scores)
    one = Agreement(
        examples=max((len(array) for array in wanted.values() if array.ndim), default=1),
        box_outputs=apart,
        baseline_right=count_right(wanted.get(of_labels or ""), labels),
        candidate_right=count_right(found.get(of_labels or ""), labels),
        odd_baseline=count_odd(wanted),
    )
    if differences := differing_forms(wanted, found):
        return attrs.evolve(one, differences=tuple(differences))
    outputs = {name: sketch_errors(np.asarray(array), found[name], first_example) for name, array in wanted.items()}
    outputs |= {name: attrs.evolve(sketch, scored=0) for name, sketch in outputs.items() if name not in scored}
    if names is None:
        return attrs.evolve(one, outputs=outputs)
    reference, candidate = (read_detections(arrays, names, options.box_format) for arrays in (wanted, found))
    boxes = match_boxes(reference, candidate, options.box_score, first_example)
    one = attrs.evolve(one, outputs=outputs, boxes=boxes)
    if ground_truth_boxes is None:
        return one
    return attrs.evolve(
        one,
        baseline_precision=sketch_precision(reference, ground_truth_boxes, options.box_format, first_example),
        candidate_precision=sketch_precision(candidate, ground_truth_boxes, options.box_format, first_example),
    )


def _sum(one: PrecisionSketch | None, other: PrecisionSketch | None) -> PrecisionSketch | None:
    return one + other if one is not None and other is not None else one or other


def count_odd(outputs: Mapping[str, Array]) -> int:
    """NaN and Inf in some outputs."""
    return sum(int(np.sum(~np.isfinite(array.astype(np.float64)))) for array in outputs.values() if not is_text(array))
