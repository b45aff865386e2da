"""All that an evaluation found, before it is written down."""

from __future__ import annotations

from typing import Any

import attrs

from tpu2gpu.latency_evaluator.accuracy.detection_samples import DetectionSample
from tpu2gpu.latency_evaluator.measure.load import Load
from tpu2gpu.latency_evaluator.results import CandidateResult, ModelFigures
from tpu2gpu.running.arrays import Array


@attrs.frozen(kw_only=True)
class Evaluation:
    """All that an evaluation found, before it is written down.

    Attributes:
        reference: The figures of the model that outputs are compared with.
        incumbent: Those of the model that is promoted now; None where there is none to compare with.
        no_incumbent: Why there is none; empty where there is one.
        candidates: Each candidate's.
        examples: How many examples there were.
        example_notes: How they were read.
        labelled: Whether they had labels, or ground-truth boxes.
        latency_ns: For each label the latencies in nanoseconds, int64 `[rounds, block]`.
        orders: The order of the models in each round, int64 `[rounds, models]`.
        scenario_ns: The other measurements' latencies by name (`server`, `offline`, `batch_8`), for each label int64
            `[windows, requests]`; of `server` and `offline` from the intended time of sending.
        load: How requests were sent.
        threads: How many threads each model was given.
        cpus: The CPU cores that the models might use.
        hardware: What stays the same between runs.
        before: The machine before the measurement.
        after: The machine after it.
        others_busy_cores: Cores that other processes kept busy during it.
        non_finite_reference: NaN and Inf in the reference's own outputs.
        remarks: What else a reader should bear in mind.
        detection_samples: Some examples with what a detector finds on them.
    """

    reference: ModelFigures
    incumbent: ModelFigures | None
    no_incumbent: str
    candidates: tuple[CandidateResult, ...]
    examples: int
    example_notes: tuple[str, ...]
    labelled: bool
    latency_ns: dict[str, Array] = attrs.field(eq=False, repr=False)
    orders: Array = attrs.field(eq=False, repr=False)
    scenario_ns: dict[str, dict[str, Array]] = attrs.field(eq=False, repr=False)
    load: Load
    threads: int
    cpus: list[int]
    hardware: dict[str, Any]
    before: dict[str, Any]
    after: dict[str, Any]
    others_busy_cores: float
    non_finite_reference: int
    remarks: tuple[str, ...]
    detection_samples: tuple[DetectionSample, ...] = attrs.field(default=(), eq=False, repr=False)
