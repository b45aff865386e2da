"""The measurements that a candidate is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from tpu2gpu.latency_evaluator.results import ModelFigures
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.comparison.detections import BoxParity
from tpu2gpu.running.comparison.parity import OutputParity
from tpu2gpu.running.comparison.variety import ExampleVariety, OutputVariety

if TYPE_CHECKING:
    from tpu2gpu.latency_evaluator.statistics.intervals import Estimate


@attrs.frozen(kw_only=True)
class Measurements:
    """The measurements that a candidate is judged by.

    Attributes:
        failure: What happened when it did not run to the end.
        differences: How its inputs and outputs differ in form from the reference's.
        examples: How many examples were compared.
        parity: Its outputs against the reference's; empty where they were not compared.
        boxes: How well its boxes match the reference's; None where no output holds detections.
        box_outputs: The outputs that hold detections.
        example_variety: How much the examples and their labels vary; None where nothing was compared.
        reference_variety: How much each of the reference's outputs varies.
        candidate_variety: The same of the candidate's.
        reference: What was measured of the reference.
        candidate: What was measured of the candidate.
        latency_ms: Its latencies in each scenario that was measured, `[rounds, block]`.
        batch_sizes: Examples in one request of each scenario.
        speedup: The reference's p50 over the candidate's; None where the sample does not bound it.
        incumbent: What was measured of the incumbent; None where there is none to compare with.
        no_incumbent: Why there is none.
        regression: By what share the candidate's p50 is above the incumbent's; None where the sample does not bound it.
        level: The verification level that was reached.
        level_reason: The same in words.
    """

    failure: str | None
    differences: Sequence[str]
    examples: int
    parity: Mapping[str, OutputParity]
    boxes: BoxParity | None = None
    box_outputs: Sequence[str] = ()
    example_variety: ExampleVariety | None = None
    reference_variety: Mapping[str, OutputVariety] = attrs.field(factory=dict)
    candidate_variety: Mapping[str, OutputVariety] = attrs.field(factory=dict)
    reference: ModelFigures
    candidate: ModelFigures
    latency_ms: Mapping[str, Array]
    batch_sizes: Mapping[str, int]
    speedup: Estimate | None
    incumbent: ModelFigures | None = None
    no_incumbent: str = "there is no incumbent"
    regression: Estimate | None = None
    level: str
    level_reason: str

    @property
    def elementwise(self) -> dict[str, OutputParity]:
        """Outputs that are compared element by element: all but detections, which are matched."""
        return {name: one for name, one in self.parity.items() if name not in self.box_outputs}

    @property
    def floating(self) -> dict[str, OutputParity]:
        """Outputs among them in floating point: class ids, strings and booleans have no distance."""
        return {name: one for name, one in self.elementwise.items() if one.unequal_share is None}
