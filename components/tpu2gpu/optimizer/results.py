"""The results of an optimization, as plain records that serialise to JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from tpu2gpu.latency_evaluator.results import run_by


@attrs.frozen(kw_only=True)
class Figures:
    """One model's figures; None is what could not be measured.

    Attributes:
        relative_error: Largest difference of its outputs from the reference's, relative to their largest value.
        top1_agreement: Share of the examples with the reference's class.
        accuracy: Share of the examples with the label's class.
        p50_ms: Median latency, one request at a time.
        p99_ms: Its 99th percentile, where the sample bounds it.
        speedup: The reference's p50 over its own.
        size_bytes: Size of the files that are run.
        run_by: The library and the device that ran it.
    """

    relative_error: float | None = None
    top1_agreement: float | None = None
    accuracy: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    speedup: float | None = None
    size_bytes: int | None = None
    run_by: str | None = None

    @classmethod
    def of_model(cls, figures: Mapping[str, Any], **more: Any) -> Figures:
        """Return the figures of a model in an evaluation's report.

        Args:
            figures: What the report holds of `ModelFigures`.
            more: What else is known.
        """
        latency_ms = figures["latency_ms"]
        return cls(
            accuracy=figures["accuracy"],
            p50_ms=latency_ms.get("p50", {}).get("value"),
            p99_ms=latency_ms.get("p99", {}).get("value"),
            size_bytes=figures["model_bytes"],
            run_by=run_by(figures["runner"]) if figures["runner"] else None,
            **more,
        )

    @classmethod
    def of_candidate(cls, found: Mapping[str, Any]) -> Figures:
        """Return the figures of a candidate in an evaluation's report."""
        error = found["relative_error"]
        return cls.of_model(
            found["figures"],
            relative_error=None if error is None else float(error),  # JSON has no infinity, so it is text there
            top1_agreement=found["top1_agreement"],
            speedup=found["speedup"].get("p50", {}).get("value"),
        )


@attrs.frozen(kw_only=True)
class CandidateOutcome:
    """What became of a candidate.

    Attributes:
        name: Its precision and back end.
        verdict: `kept` is the best that is blessed, `refused` did not pass a budget, `failed` did not come so far.
        reasons: Why it was refused, or failed.
        remarks: On what the verdict was reached.
        figures: What was measured of it.
    """

    name: str
    verdict: Literal["kept", "blessed", "refused", "failed"]
    reasons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    figures: Figures = Figures()


@attrs.frozen
class StepDone:
    """A step that was done.

    Attributes:
        step: Its command.
        name: What it made.
        cached: Whether that came from the cache.
    """

    step: str
    name: str
    cached: bool


@attrs.frozen(kw_only=True)
class OptimizeResult:
    """The best candidate, and what became of all.

    Attributes:
        target: The folder that was written.
        blessed: Whether there is a candidate to promote.
        best: Its name; empty where there is none.
        serving: Its serving folder, in the target; None where there is none.
        evaluation: The folder of the verdict, in the target; None where no candidate came so far.
        reference: The figures of the imported model.
        candidates: What became of each.
        not_tried: For a precision or a back end that was left out the reason.
        steps: What was done, and what came from the cache.
        warnings: What makes the figures less sure.
    """

    target: Path
    blessed: bool
    best: str
    serving: Path | None
    evaluation: Path | None
    reference: Figures
    candidates: tuple[CandidateOutcome, ...]
    not_tried: dict[str, str]
    steps: tuple[StepDone, ...]
    warnings: tuple[str, ...] = ()
