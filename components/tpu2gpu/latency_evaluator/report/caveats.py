"""Warnings: what makes a measurement less sure than it looks."""

from __future__ import annotations

from collections.abc import Iterator

from tpu2gpu.latency_evaluator.evaluation import Evaluation
from tpu2gpu.latency_evaluator.results import ModelFigures
from tpu2gpu.latency_evaluator.statistics.intervals import PERCENTILES

UNEVEN_BLOCKS = 0.1
_EXPECTED_PERCENTILE = 99.0  # p99.9 takes thousands of requests: it is printed where there are, and not missed
_BUSY_CORES = 0.25  # of others, for each core that there is
_THROTTLED_S = 0.1
_BUSY_GPU = 10.0  # percent
_CLOCK_DRIFT = 0.1  # of the highest clock


def find_warnings(evaluation: Evaluation) -> tuple[str, ...]:
    """Find what makes the figures less sure, one sentence each."""
    incumbent = [evaluation.incumbent] if evaluation.incumbent else []
    candidates = [candidate.figures for candidate in evaluation.candidates]
    models = [evaluation.reference, *incumbent, *candidates]
    return (
        *evaluation.remarks,
        *_machine(evaluation),
        *_noise(evaluation, models),
        *_load(models),
        *_devices("speed-up", evaluation.reference, candidates),
        *(line for model in incumbent for line in _devices("comparison with the incumbent", model, candidates)),
        *_samples(evaluation, models),
    )


def _noise(evaluation: Evaluation, models: list[ModelFigures]) -> Iterator[str]:
    cores = evaluation.hardware["cores"]
    if evaluation.others_busy_cores > _BUSY_CORES * cores:
        yield f"Noisy: other processes kept {evaluation.others_busy_cores:.1f} of {cores} cores busy meanwhile."
    before = evaluation.before["load_average"][0]
    if before > cores:
        yield f"Noisy: the load average was {before:.1f} on {cores} cores before the measurement began."
    for model in models:
        if model.relative_iqr is not None and model.relative_iqr > UNEVEN_BLOCKS:
            yield (
                f"Noisy: {model.called}'s blocks are uneven, the quartiles of their medians lie "
                f"{100 * model.relative_iqr:.0f} % of the median apart."
            )
        if model.warm_up is not None and not model.warm_up.stable:
            yield f"Not converged after {model.warm_up.requests} warm-up requests: {model.called}, {model.warm_up.why}."


def _machine(evaluation: Evaluation) -> Iterator[str]:
    before, after = evaluation.before, evaluation.after
    if before.get("governor") not in (None, "performance"):
        yield f"Noisy: the CPU's frequency governor is {before['governor']}, not performance."
    throttled_s = after.get("throttled_s", 0.0) - before.get("throttled_s", 0.0)
    if throttled_s > _THROTTLED_S:
        quota = f"{before['cpu_quota_cores']:g} cores"
        yield f"Noisy: a quota of {quota} stopped processes for {throttled_s:.1f} s meanwhile."
    for was, now in zip(before["gpus"], after["gpus"], strict=False):
        if _number(was["utilization.gpu"]) > _BUSY_GPU:
            yield f"Noisy: the GPU {was['uuid']} was {was['utilization.gpu']} busy before the measurement began."
        if abs(_number(now["clocks.sm"]) - _number(was["clocks.sm"])) > _CLOCK_DRIFT * _number(now["clocks.max.sm"]):
            yield f"Noisy: the GPU {was['uuid']} went from {was['clocks.sm']} to {now['clocks.sm']} meanwhile."


def _load(models: list[ModelFigures]) -> Iterator[str]:
    endings: dict[str, str] = {}
    for model in models:
        for name, one in model.scenarios.items():
            if one.ending is not None and not one.ending.stable:
                endings[name] = one.ending.why
            if not one.kept_up:
                yield (
                    f"Overloaded: {model.called} answered {one.achieved_qps:.3g} of {one.target_qps:.3g} requests per "
                    "second; its latencies in the server scenario grow with the length of the run."
                )
    for name, why in endings.items():
        yield f"Not converged, {name.replace('_', '-')}: {why}."


def _number(reading: str) -> float:
    """Read a number: `1980 MHz` -> 1980.0; 0 for what nvidia-smi does not tell."""
    digits = reading.split(" ", maxsplit=1)[0]
    return float(digits) if digits.replace(".", "", 1).isdigit() else 0.0


def _devices(what: str, other: ModelFigures, candidates: list[ModelFigures]) -> Iterator[str]:
    on = str(other.runner.get("device"))
    for model in candidates:
        device = model.runner.get("device")
        if device is not None and str(device).startswith("CPU") != on.startswith("CPU"):
            ran_on = f"{other.called} ran on {on}, {model.called} on {device}"
            yield f"The {what} compares devices too: {ran_on}."


def _samples(evaluation: Evaluation, models: list[ModelFigures]) -> Iterator[str]:
    if evaluation.non_finite_reference:
        yield f"The reference's own outputs hold {evaluation.non_finite_reference} NaN or Inf."
    if not evaluation.labelled:
        yield "The examples have no labels: accuracy was not measured."
    timed = next((model for model in models if model.requests), None)
    wanted = [f"p{percentile:g}" for percentile in PERCENTILES if percentile <= _EXPECTED_PERCENTILE]
    missing = [name for name in wanted if timed is not None and name not in timed.latency_ms]
    if timed is not None and missing:
        yield f"{timed.requests} requests are too few to bound {', '.join(missing)}: not printed."
