"""The results of an evaluation, as plain records that serialise to JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from tpu2gpu.reporting.numbers import NONE, significant

if TYPE_CHECKING:
    from tpu2gpu.latency_evaluator.partition import PartitionFigures
    from tpu2gpu.latency_evaluator.statistics.intervals import Estimate
    from tpu2gpu.running.comparison.detections import BoxParity
    from tpu2gpu.running.comparison.parity import OutputParity

REFERENCE = "reference"
INCUMBENT = "incumbent"
DEGENERATE = "degenerate"
"""The check that comes first: whether there is anything that the answers could prove."""
_ONNX_PROVIDER = "ExecutionProvider"
_KEPT_UP = 0.95  # answered over sent

Gate = Literal["infra", "model", "both"]
Outcome = Literal["pass", "fail", "undecided", "not_applicable"]
Comparison = Literal["reference", "incumbent", "absolute"]
"""What a candidate is held against: the model it was made from, the one that is promoted now, or a number alone."""


@attrs.frozen
class Check:
    """One budget and its verdict.

    Attributes:
        name: The option that sets the budget, or what is always asked: `degenerate`, `runs`, `same_signature`,
            `finite_outputs`.
        value: The figure that was measured, or None where there is none.
        threshold: The most or the least that it may be.
        verdict: `undecided` where the figure is missing or the sample too small, `not_applicable` where there is no
            incumbent that it could be held against.
        reason: The numbers behind the verdict, in words.
        gate: The blessing that depends on it.
        against: What the candidate is held against.
        allowed: Whether the options allow it to stay undecided.
    """

    name: str
    value: float | str | None
    threshold: float | str | None
    verdict: Outcome
    reason: str
    gate: Gate
    against: Comparison = "absolute"
    allowed: bool = False
    _unit: Callable[[float], str] = attrs.field(default=significant, eq=False, repr=False)

    @property
    def passed(self) -> bool:
        """True where it stands in no blessing's way."""
        return self.verdict in ("pass", "not_applicable") or (self.verdict == "undecided" and self.allowed)

    @property
    def value_text(self) -> str:
        """Value with its unit."""
        return self._text(self.value)

    @property
    def threshold_text(self) -> str:
        """Threshold with its unit."""
        return self._text(self.threshold)

    @property
    def sentence(self) -> str:
        """Name, value, threshold and reason in one line."""
        if isinstance(self.value, str) or self.value is None:
            return f"{self.name}: {self.reason}"
        word = "undecided, " if self.verdict == "undecided" else ""
        return f"{self.name}: {word}{self.value_text}, the threshold is {self.threshold_text} ({self.reason})"

    def _text(self, value: float | str | None) -> str:
        return (value or NONE).replace("_", " ") if value is None or isinstance(value, str) else self._unit(value)


@attrs.frozen
class WarmUp:
    """The warm-up of a model.

    Attributes:
        requests: How many requests it took.
        stable: Whether the last windows agreed.
        why: What ended it.
    """

    requests: int
    stable: bool
    why: str


@attrs.frozen
class Ending:
    """The end of a measurement.

    Attributes:
        stable: Whether the last windows agreed.
        why: The same in words.
    """

    stable: bool
    why: str


@attrs.frozen(kw_only=True)
class ScenarioFigures:
    """One model's figures in one scenario, as MLPerf LoadGen names them.

    Attributes:
        scenario: `single_stream` (the next request when the last is answered), `server` (requests at Poisson times,
            whatever the responses take) or `offline` (all requests at once).
        batch_size: Examples in one request.
        concurrency: Requests that the client has under way at most.
        requests: How many were timed.
        throughput_per_s: Examples answered per second; single-stream, per second of a request's time.
        latency_ms: p50 to p99; of `server` from the intended time of sending, so that a request that had to wait for
            others counts its waiting. A percentile that the sample does not bound is missing, all of `offline` are.
        target_qps: Requests per second that were sent; `server` only.
        achieved_qps: Requests per second that were answered; `server` only.
        latency_breakdown_ms: The mean time of a request in each part, where the runner can tell: `client`, `network`,
            `queue`, `compute`, `copy_in`, `copy_out`.
        ending: What ended the measurement.
    """

    scenario: str
    batch_size: int
    concurrency: int = 1
    requests: int = 0
    throughput_per_s: float | None = None
    latency_ms: dict[str, Estimate] = attrs.field(factory=dict)
    target_qps: float | None = None
    achieved_qps: float | None = None
    latency_breakdown_ms: dict[str, float] = attrs.field(factory=dict)
    ending: Ending | None = None

    @property
    def kept_up(self) -> bool:
        """True where requests were answered as fast as they came."""
        return not self.target_qps or (self.achieved_qps or 0.0) >= _KEPT_UP * self.target_qps


@attrs.frozen(kw_only=True)
class ModelFigures:
    """All that was measured of one model; None is what could not be measured.

    Attributes:
        label: `reference`, `incumbent` or `candidate`, numbered where there are several.
        name: The model's folder or file.
        digest: SHA-256 of its files.
        dtype: The coarsest number type in which it computes.
        runner: What ran it: kind, device, provider, threads, versions.
        load_s: Time to open it, its library's import included.
        first_call_ms: The first response's time.
        warm_up: How it was warmed up.
        latency_ms: p50, p90, p95 and p99, single-stream; a percentile that the sample does not bound is missing.
        requests: How many requests were timed.
        throughput_per_s: Examples answered per second of a request's time, one request at a time.
        relative_iqr: Quartile distance of the blocks' medians over their median.
        scenarios: Its figures in each scenario that was measured, by the scenario's name.
        batch_sweep: Its single-stream figures by batch size, the smallest first.
        accuracy: Share of the examples whose largest score is at the label.
        top5_accuracy: Share of the examples whose label is among the five largest scores.
        mean_average_precision: Of a detector, as COCO defines it.
        peak_rss_bytes: Largest resident memory of its process on the host.
        gpu_memory_bytes: GPU memory of its process after the last request.
        model_bytes: Size of the files that were run.
        folder_bytes: Size of all its files.
        partition: The parts of a serving folder's model; None where it is in one.
    """

    label: str
    name: str
    digest: str | None = None
    dtype: str | None = None
    runner: dict[str, Any] = attrs.field(factory=dict)
    load_s: float | None = None
    first_call_ms: float | None = None
    warm_up: WarmUp | None = None
    latency_ms: dict[str, Estimate] = attrs.field(factory=dict)
    requests: int = 0
    throughput_per_s: float | None = None
    relative_iqr: float | None = None
    scenarios: dict[str, ScenarioFigures] = attrs.field(factory=dict)
    batch_sweep: tuple[ScenarioFigures, ...] = ()
    accuracy: float | None = None
    top5_accuracy: float | None = None
    mean_average_precision: float | None = None
    peak_rss_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    model_bytes: int | None = None
    folder_bytes: int | None = None
    partition: PartitionFigures | None = None

    @property
    def called(self) -> str:
        """Name in a sentence: `the candidate`, `candidate 2`."""
        return self.label if self.label[-1].isdigit() else f"the {self.label}"

    @property
    def run_by(self) -> str | None:
        """Library and device, such as `TensorFlow on CPU:0`; None where it did not load."""
        return run_by(self.runner) if self.runner else None


def run_by(runner: Mapping[str, Any]) -> str:
    """Return the library and the device of a runner's description, in words."""
    provider = str(runner.get("provider"))
    if provider.endswith(_ONNX_PROVIDER):
        kind = provider.removesuffix(_ONNX_PROVIDER)
        provider = "ONNX Runtime" if kind == "CPU" else f"ONNX Runtime with {kind}"
    return f"{provider} on {runner.get('device')}"


@attrs.frozen(kw_only=True)
class CandidateResult:
    """One candidate's figures, comparison and verdict.

    Attributes:
        figures: What was measured of it.
        compared: How many examples were compared.
        parity: Its outputs against the reference's; empty where they cannot be compared.
        boxes: How well its boxes match the reference's; None where no output holds detections.
        box_outputs: The outputs that hold detections: they are matched, and their relative error does not count.
        speedup: The reference's p50 and p99 over the candidate's; missing where the sample does not bound them.
        regression: By what share the candidate's p50 is above the incumbent's; None without an incumbent, and where the
            sample does not bound it.
        checks: Every value beside its threshold.
        speed: What the verdict says of speed: `judged`, `undecided` where every budget of speed stayed so, or
            `not_judged` where there was none.
        verified_level: On what the verdict was reached, one of `storage.promotion.verdicts.LEVELS`.
        level_reason: The same in words.
        infra_blessed: Whether it runs, and is as fast as asked.
        model_blessed: Whether its outputs are the reference's.
    """

    figures: ModelFigures
    compared: int
    parity: dict[str, OutputParity]
    boxes: BoxParity | None = None
    box_outputs: tuple[str, ...] = ()
    speedup: dict[str, Estimate]
    regression: Estimate | None = None
    checks: tuple[Check, ...]
    speed: str = "judged"
    verified_level: str
    level_reason: str
    infra_blessed: bool
    model_blessed: bool

    @property
    def blessed(self) -> bool:
        """True where it may be promoted."""
        return self.infra_blessed and self.model_blessed

    @property
    def relative_error(self) -> float | None:
        """Largest of all outputs in floating point, but for those that are matched as boxes."""
        return max((one.relative_error for one in self._compared if one.unequal_share is None), default=None)

    @property
    def top1_agreement(self) -> float | None:
        """Smallest of all outputs that have one; of class ids, strings and booleans the equal share."""
        return min((one.agreement for one in self._compared if one.agreement is not None), default=None)

    @property
    def _compared(self) -> list[OutputParity]:
        return [one for name, one in self.parity.items() if name not in self.box_outputs]

    @property
    def degenerate(self) -> str:
        """What proves nothing in examples, labels and outputs; empty where all is well."""
        return next((one.reason for one in self.checks if one.name == DEGENERATE and one.verdict != "pass"), "")

    @property
    def reasons(self) -> tuple[str, ...]:
        """Reasons of a refusal: a sentence for each check that did not pass."""
        return tuple(check.sentence for check in self.checks if not check.passed)


@attrs.frozen(kw_only=True)
class EvaluateResult:
    """The verdict, and all figures behind it.

    Attributes:
        target: The folder with the reports.
        blessed: Whether a candidate may be promoted.
        infra_blessed: The latency verdict of the chosen candidate.
        model_blessed: The parity verdict of the chosen candidate.
        verified_level: On what the verdict was reached.
        chosen: Label of the fastest candidate that is blessed, else of the first.
        reference: The figures of the model that outputs are compared with.
        incumbent: Those of the model that is promoted now; None where there is none to compare with.
        no_incumbent: Why there is none; empty where there is one.
        candidates: Each candidate's.
        name: What all of them are forms of; empty where nobody says it.
        warnings: What makes the figures less sure.
        report: What `report.json` holds.
    """

    target: Path
    blessed: bool
    infra_blessed: bool
    model_blessed: bool
    verified_level: str
    chosen: str
    reference: ModelFigures
    incumbent: ModelFigures | None
    no_incumbent: str
    candidates: tuple[CandidateResult, ...]
    name: str = ""
    warnings: tuple[str, ...]
    report: dict[str, Any] = attrs.field(eq=False, repr=False)

    @property
    def heading(self) -> str:
        """What was compared: `digits: frozen (float16) against imported`."""
        candidate, reference = self.candidate.figures, self.reference
        dtype = f" ({candidate.dtype})" if candidate.dtype not in (None, reference.dtype) else ""
        compared = f"{candidate.name}{dtype} against {reference.name}"
        return f"{self.name}: {compared}" if self.name else compared

    @property
    def models(self) -> tuple[ModelFigures, ...]:
        """Figures of all models: reference, incumbent, candidates."""
        others = (self.incumbent,) if self.incumbent else ()
        return (self.reference, *others, *(candidate.figures for candidate in self.candidates))

    @property
    def candidate(self) -> CandidateResult:
        """Result of the chosen candidate."""
        return next(candidate for candidate in self.candidates if candidate.figures.label == self.chosen)
