"""The written evaluation: the result, its JSON files, and the report that people read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from tpu2gpu._version import __version__
from tpu2gpu.hardware.host import fingerprint, software
from tpu2gpu.latency_evaluator.evaluation import Evaluation
from tpu2gpu.latency_evaluator.measure.histograms import RAW_REQUESTS, encode
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.latency_evaluator.report.caveats import find_warnings
from tpu2gpu.latency_evaluator.report.report_blocks import blocks
from tpu2gpu.latency_evaluator.report.summary import (
    degenerate_sentence,
    headline,
    speed_sentence,
    summary_lines,
    summary_rows,
)
from tpu2gpu.latency_evaluator.results import CandidateResult, EvaluateResult, ModelFigures
from tpu2gpu.reporting.report import Report, Tone, to_html, to_markdown
from tpu2gpu.storage.publishing import Staging, plain, write_json

PAGE = "page.json"
"""The report as data, for a page that holds more."""


def write_reports(
    evaluation: Evaluation, options: EvaluateOptions, staging: Staging, target: Path, name: str = ""
) -> EvaluateResult:
    """Write everything that the output folder holds.

    Args:
        evaluation: What was found.
        options: What was asked.
        staging: Where to write; its report is set too.
        target: Where the folder will stand.
        name: What all models are forms of.

    Returns:
        The result.
    """
    chosen = _choose(evaluation)
    warnings = find_warnings(evaluation)
    verdict = _verdict(evaluation, chosen)
    staging.report = plain(
        {
            "verdict": verdict,
            "warnings": warnings,
            "reference": evaluation.reference,
            "incumbent": evaluation.incumbent,
            "no_incumbent": evaluation.no_incumbent,
            "candidates": [_candidate(candidate) for candidate in evaluation.candidates],
            "measurement": _measurement(evaluation),
            "options": options,
        }
    )
    result = EvaluateResult(
        target=target,
        blessed=chosen.blessed,
        infra_blessed=chosen.infra_blessed,
        model_blessed=chosen.model_blessed,
        verified_level=chosen.verified_level,
        chosen=chosen.figures.label,
        reference=evaluation.reference,
        incumbent=evaluation.incumbent,
        no_incumbent=evaluation.no_incumbent,
        candidates=evaluation.candidates,
        name=name,
        warnings=warnings,
        report=staging.report,
    )
    report = _report(result, evaluation, options)
    write_json(staging.folder / "verdict.json", verdict)
    write_json(staging.folder / "metrics.json", metrics(result))
    write_json(staging.folder / PAGE, report)
    write_json(staging.folder / "summary.json", {"lines": summary_lines(result), "rows": summary_rows(result)})
    (staging.folder / "report.html").write_text(to_html(report), encoding="utf-8")
    (staging.folder / "report.md").write_text(to_markdown(report), encoding="utf-8")
    _write_latencies(evaluation, staging.folder)
    return result


def _write_latencies(evaluation: Evaluation, folder: Path) -> None:
    """Write every latency that was measured, but of very long runs; and histograms of all."""
    arrays = {label.replace(" ", "_"): blocks for label, blocks in evaluation.latency_ns.items()}
    for scenario, latencies in evaluation.scenario_ns.items():
        arrays |= {f"{scenario}_{label}".replace(" ", "_"): windows for label, windows in latencies.items()}
    write_json(folder / "histograms.json", {name: encode(latency_ns) for name, latency_ns in arrays.items()})
    raw = {name: latency_ns for name, latency_ns in arrays.items() if latency_ns.size <= RAW_REQUESTS}
    np.savez_compressed(folder / "latencies.npz", order=evaluation.orders, **raw)  # type: ignore[arg-type, unused-ignore]


def metrics(result: EvaluateResult) -> dict[str, float]:
    """Return the figures of the chosen candidate and of what it was held against: flat, unit in the key, no gaps."""
    chosen = result.candidate
    partition = chosen.figures.partition
    flat: dict[str, float | None] = {
        "blessed": int(result.blessed),
        "infra_blessed": int(result.infra_blessed),
        "model_blessed": int(result.model_blessed),
        **_model_metrics("reference", result.reference),
        **(_model_metrics("incumbent", result.incumbent) if result.incumbent else {}),
        **_model_metrics("candidate", chosen.figures),
        "relative_error_max": chosen.relative_error,
        "top1_agreement": chosen.top1_agreement,
        "box_iou": chosen.boxes.mean_iou if chosen.boxes else None,
        "core_share_of_flops": partition.core_share if partition else None,
        **{f"speedup_{name}": ratio.value for name, ratio in chosen.speedup.items()},
        **{f"speedup_{name}_lower": ratio.lower for name, ratio in chosen.speedup.items()},
        "latency_regression": chosen.regression.value if chosen.regression else None,
        "latency_regression_upper": chosen.regression.upper if chosen.regression else None,
    }
    return {name: value for name, value in flat.items() if value is not None and math.isfinite(value)}


def _model_metrics(label: str, figures: ModelFigures) -> dict[str, float | None]:
    percentiles = {name.replace(".", "_"): estimate for name, estimate in figures.latency_ms.items()}
    latencies = {f"{label}_{name}_ms": estimate.value for name, estimate in percentiles.items()}
    uppers = {f"{label}_{name}_upper_ms": estimate.upper for name, estimate in percentiles.items()}
    return {
        f"{label}_accuracy": figures.accuracy,
        f"{label}_top5_accuracy": figures.top5_accuracy,
        f"{label}_mean_average_precision": figures.mean_average_precision,
        **latencies,
        **uppers,
        f"{label}_throughput_per_s": figures.throughput_per_s,
        f"{label}_load_s": figures.load_s,
        f"{label}_first_call_ms": figures.first_call_ms,
        f"{label}_peak_rss_bytes": figures.peak_rss_bytes,
        f"{label}_gpu_memory_bytes": figures.gpu_memory_bytes,
        f"{label}_model_bytes": figures.model_bytes,
        f"{label}_folder_bytes": figures.folder_bytes,
        **_scenario_metrics(label, figures),
    }


def _scenario_metrics(label: str, figures: ModelFigures) -> dict[str, float | None]:
    """Return the figures of the scenarios beside single-stream, and of the batch sizes."""
    flat: dict[str, float | None] = {}
    named = {name: one for name, one in figures.scenarios.items() if name != "single_stream"}
    named |= {f"batch_{one.batch_size}": one for one in figures.batch_sweep}
    for name, one in named.items():
        flat |= {f"{label}_{name}_{p}_ms": estimate.value for p, estimate in one.latency_ms.items()}
        flat[f"{label}_{name}_throughput_per_s"] = one.throughput_per_s
        flat[f"{label}_{name}_achieved_qps"] = one.achieved_qps
    return flat


def _choose(evaluation: Evaluation) -> CandidateResult:
    """Choose the fastest candidate that is blessed, else the first."""
    blessed = [candidate for candidate in evaluation.candidates if candidate.blessed]
    if not blessed:
        return evaluation.candidates[0]
    return min(blessed, key=lambda candidate: float(np.median(evaluation.latency_ns[candidate.figures.label])))


def _verdict(evaluation: Evaluation, chosen: CandidateResult) -> dict[str, Any]:
    return {
        "blessed": chosen.blessed,
        "infra_blessed": chosen.infra_blessed,
        "model_blessed": chosen.model_blessed,
        "verified_level": chosen.verified_level,
        "candidate": chosen.figures.name,
        "candidate_digest": chosen.figures.digest,
        "speed": chosen.speed,
        "reference_digest": evaluation.reference.digest,
        "incumbent_digest": evaluation.incumbent.digest if evaluation.incumbent else None,
        "checks": chosen.checks,
        "hardware": evaluation.hardware,
        "hardware_fingerprint": fingerprint(evaluation.hardware),
        "versions": chosen.figures.runner.get("versions", {}),
    }


def _candidate(candidate: CandidateResult) -> dict[str, Any]:
    """Return a candidate's record, and what follows from it."""
    derived = ("blessed", "relative_error", "top1_agreement", "reasons")
    remarks = [*degenerate_sentence(candidate), *speed_sentence(candidate), candidate.level_reason]
    return {**plain(candidate), **{name: getattr(candidate, name) for name in derived}, "remarks": remarks}


def _measurement(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "scenarios": list(evaluation.reference.scenarios),
        "load": evaluation.load,
        "rounds": len(evaluation.orders),
        "threads": evaluation.threads,
        "examples": evaluation.examples,
        "example_notes": evaluation.example_notes,
        "labelled": evaluation.labelled,
        "hardware": evaluation.hardware,
        "software": software(),
        "cpus": evaluation.cpus,
        "before": evaluation.before,
        "after": evaluation.after,
        "others_busy_cores": evaluation.others_busy_cores,
    }


def _report(result: EvaluateResult, evaluation: Evaluation, options: EvaluateOptions) -> Report:
    chosen = result.candidate
    open_only = not result.blessed and all(check.verdict != "fail" for check in chosen.checks)
    tone: Tone = "good" if result.blessed else ("open" if open_only else "bad")
    return Report(
        title=result.heading,
        verdict="BLESSED" if result.blessed else "REFUSED",
        tone=tone,
        lead=[*degenerate_sentence(chosen), *speed_sentence(chosen), chosen.level_reason, *headline(result)],
        reasons=chosen.reasons,
        warnings=result.warnings,
        blocks=blocks(result, evaluation, options),
        footer=f"tpu2gpu {__version__} · candidate {_short(chosen.figures.digest)} · "
        f"reference {_short(result.reference.digest)} · machine {fingerprint(evaluation.hardware)}",
    )


def _short(digest: str | None) -> str:
    return f"sha256:{digest[:12]}" if digest else "without digest"
