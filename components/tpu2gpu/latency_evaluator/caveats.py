"""What makes a measurement less sure than it looks."""

from __future__ import annotations

from collections.abc import Iterator

from tpu2gpu.latency_evaluator.evaluation import Evaluation
from tpu2gpu.latency_evaluator.results import ModelFigures
from tpu2gpu.latency_evaluator.statistics import PERCENTILES

UNEVEN_BLOCKS = 0.1
_EXPECTED_PERCENTILE = 99.0  # p99.9 takes thousands of requests: it is printed where there are, and not missed
_BUSY_CORES = 0.25  # of others, for each core that there is


def find_warnings(evaluation: Evaluation) -> tuple[str, ...]:
    """All that a reader should bear in mind, one sentence each."""
    rival = [evaluation.latency_baseline] if evaluation.latency_baseline else []
    candidates = [candidate.figures for candidate in evaluation.candidates]
    models = [evaluation.baseline, *rival, *candidates]
    return (
        *evaluation.remarks,
        *_noise(evaluation, models),
        *_devices(rival[0] if rival else evaluation.baseline, candidates),
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
        if model.block_spread is not None and model.block_spread > UNEVEN_BLOCKS:
            yield (
                f"Noisy: {model.called}'s blocks are uneven, the quartiles of their medians lie "
                f"{model.block_spread:.0%} of the median apart."
            )
        if model.warm_up is not None and not model.warm_up.stable:
            yield f"Not settled after {model.warm_up.requests} warm-up requests: {model.called}, {model.warm_up.why}."


def _devices(rival: ModelFigures, candidates: list[ModelFigures]) -> Iterator[str]:
    on = str(rival.runner.get("device"))
    for model in candidates:
        device = model.runner.get("device")
        if device is not None and str(device).startswith("CPU") != on.startswith("CPU"):
            yield f"The speed-up compares devices too: {rival.called} ran on {on}, {model.called} on {device}."


def _samples(evaluation: Evaluation, models: list[ModelFigures]) -> Iterator[str]:
    if evaluation.odd_baseline:
        yield f"The baseline's own outputs hold {evaluation.odd_baseline} NaN or Inf."
    if not evaluation.labelled:
        yield "The examples have no labels: accuracy was not measured."
    timed = next((model for model in models if model.requests), None)
    wanted = [f"p{percentile:g}" for percentile in PERCENTILES if percentile <= _EXPECTED_PERCENTILE]
    missing = [name for name in wanted if timed is not None and name not in timed.latency_ms]
    if timed is not None and missing:
        yield f"{timed.requests} requests are too few to bound {', '.join(missing)}: not printed."
