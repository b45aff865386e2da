"""The tables, figures and facts of an evaluation's report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tpu2gpu.latency_evaluator.budgets.latency_budgets import gated_percentile
from tpu2gpu.latency_evaluator.evaluation import Evaluation
from tpu2gpu.latency_evaluator.measure.model_under_test import REWARM_REQUESTS
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.latency_evaluator.report.detection_drawings import detection_figures
from tpu2gpu.latency_evaluator.report.partition_blocks import partition_tables
from tpu2gpu.latency_evaluator.report.recipe_block import recipe_table
from tpu2gpu.latency_evaluator.report.scenario_blocks import scenario_blocks
from tpu2gpu.latency_evaluator.results import CandidateResult, Check, EvaluateResult, ModelFigures, run_by
from tpu2gpu.latency_evaluator.statistics.intervals import PERCENTILES, Estimate
from tpu2gpu.reporting.numbers import NONE, milliseconds, per_second, percent, ratio, seconds, significant, size
from tpu2gpu.reporting.plots import latency_boxes, latency_ecdf, ratio_intervals
from tpu2gpu.reporting.report import Drawing, Facts, Figures, Row, Table, Tone
from tpu2gpu.running.comparison.detections import BoxParity

_TONES: dict[str, Tone] = {"pass": "good", "fail": "bad", "undecided": "open", "not_applicable": "plain"}


def blocks(result: EvaluateResult, evaluation: Evaluation, options: EvaluateOptions) -> list[Table | Figures | Facts]:
    """Make all blocks, in the order in which they are read."""
    several = len(result.candidates) > 1
    made: list[Table | Figures | Facts] = [_figures_table(result, evaluation)]
    for candidate in result.candidates:
        named = f" of {candidate.figures.label}, {candidate.figures.name}" if several else ""
        made.append(_checks_table(candidate, f"Checks{named}"))
    if latencies := _latency_figures(result, evaluation, options):
        made.append(latencies)
    made += scenario_blocks(result.models)
    for candidate in result.candidates:
        named = f", {candidate.figures.label}" if several else ""
        if candidate.parity:
            made.append(_parity_table(candidate, f"Outputs{named}"))
        if candidate.boxes is not None:
            made.append(_box_facts(candidate, f"Boxes{named}", options))
        if candidate.figures.partition is not None:
            made += partition_tables(candidate.figures.partition, named)
    if detections := detection_figures(evaluation.detection_samples, options.box_score):
        made.append(detections)
    if recipe := recipe_table(result, evaluation.latency_ns):
        made.append(recipe)
    return [*made, _measured(result, evaluation), _machine(result, evaluation)]


def _figures_table(result: EvaluateResult, evaluation: Evaluation) -> Table:
    models, blanks = result.models, [NONE] * (len(result.models) - len(result.candidates))
    rows = []
    of_labels = {
        "accuracy": "accuracy",
        "top-5 accuracy": "top5_accuracy",
        "mean average precision": "mean_average_precision",
    }
    for name, figure in of_labels.items():
        if any(getattr(model, figure) is not None for model in models):
            rows.append(Row([name, *(percent(getattr(model, figure)) for model in models)]))
    rows.append(Row(["relative error", *blanks, *(significant(one.relative_error) for one in result.candidates)]))
    if any(one.top1_agreement is not None for one in result.candidates):
        rows.append(Row(["top-1 agreement", *blanks, *(percent(one.top1_agreement) for one in result.candidates)]))
    if any(one.boxes is not None for one in result.candidates):
        ious = (significant(one.boxes.mean_iou if one.boxes else None) for one in result.candidates)
        rows.append(Row(["overlap of boxes (IoU)", *blanks, *ious]))
    rows += [
        Row([name, *(_interval(model.latency_ms.get(name), milliseconds) for model in models)])
        for name in (f"p{percentile:g}" for percentile in PERCENTILES)
        if any(name in model.latency_ms for model in models)
    ]
    for name in ("p50", "p99"):
        if any(name in one.speedup for one in result.candidates):
            cells = (_interval(one.speedup.get(name), ratio) for one in result.candidates)
            rows.append(Row([f"speed-up over the reference ({name})", *blanks, *cells]))
    if any(one.regression for one in result.candidates):
        cells = (_interval(one.regression, percent) for one in result.candidates)
        rows.append(Row(["slower than the incumbent (p50)", *blanks, *cells]))
    of_models: dict[str, Callable[[ModelFigures], str]] = {
        "throughput": lambda model: per_second(model.throughput_per_s),
        "load": lambda model: seconds(model.load_s),
        "first call": lambda model: milliseconds(model.first_call_ms),
        "peak memory": lambda model: size(model.peak_rss_bytes),
        **(
            {"GPU memory": lambda model: size(model.gpu_memory_bytes)}
            if any(model.gpu_memory_bytes is not None for model in models)
            else {}
        ),
        "size on disk": lambda model: size(model.model_bytes),
        "whole folder": lambda model: size(model.folder_bytes),
        "dtype": lambda model: model.dtype or NONE,
        "run by": lambda model: model.run_by or NONE,
    }
    rows += [Row([name, *map(of, models)]) for name, of in of_models.items()]
    columns = ["", *(f"{model.label}: {model.name}" for model in models)]
    note = (
        "In brackets the 95 % interval: of percentiles from order statistics, without assuming a distribution; of the "
        "speed-up by block bootstrap. It speaks of these processes: another start of the same model may differ. "
        "Throughput is that of one request at a time. Load includes importing the library; peak memory is the "
        "process's on the host; size on disk is that of the files that were run."
    )
    return Table("Figures", columns, rows, note)


def _checks_table(candidate: CandidateResult, heading: str) -> Table:
    rows = [
        Row(
            [
                check.name,
                check.against,
                check.value_text,
                check.threshold_text,
                _word(check),
                check.reason,
            ],
            _TONES[check.verdict],
        )
        for check in candidate.checks
    ]
    columns = ["check", "against", "value", "threshold", "verdict", "because"]
    note = (
        "Against the reference, the model that the candidate was made from; the incumbent, what is promoted now; or "
        "absolute, the threshold alone."
    )
    return Table(heading, columns, rows, note, numeric=False, badge_column=4)


def _latency_figures(result: EvaluateResult, evaluation: Evaluation, options: EvaluateOptions) -> Figures | None:
    latencies_ms = {label: latency_ns / 1e6 for label, latency_ns in evaluation.latency_ns.items()}
    if not latencies_ms:
        return None
    percentile, limit_ms = gated_percentile(options)
    limit = (limit_ms, f"p{percentile:g}")
    drawings = [
        Drawing(latency_ecdf(latencies_ms, *limit), "Share of requests answered within a time"),
        Drawing(latency_boxes(latencies_ms, *limit), "Spread of the latencies"),
    ]
    ratios = {one.figures.label: one.speedup["p50"] for one in result.candidates if "p50" in one.speedup}
    if ratios:
        points = {label: (ratio.value, ratio.lower, ratio.upper) for label, ratio in ratios.items()}
        title = "Speed-up (p50) over the reference, with its 95 % interval"
        drawings.append(Drawing(ratio_intervals(points, options.min_speedup), title))
    note = (
        "Boxes reach from the 25th to the 75th percentile with the median inside, whiskers from the 1st to the 99th; "
        "the circle is the slowest request."
    )
    return Figures("Latency", drawings, note)


def _parity_table(candidate: CandidateResult, heading: str) -> Table:
    thresholds = {check.name: check.threshold_text for check in candidate.checks}
    rows = [
        Row(
            [
                name,
                significant(one.relative_error),
                NONE
                if name in candidate.box_outputs or one.unequal_share is not None
                else thresholds.get("max_relative_error", NONE),
                significant(one.max_abs_error),
                significant(one.mean_abs_error),
                NONE if one.cosine is None else f"{one.cosine:.6f}",
                percent(None if name in candidate.box_outputs else one.agreement),
                percent(one.top5_agreement),
                str(one.nan_count + one.inf_count),
                NONE
                if one.worst_example is None or not one.max_abs_error
                else _place(one.worst_example, one.worst_element),
            ]
        )
        for name, one in candidate.parity.items()
    ]
    columns = ["output", "relative", "threshold", "largest", "mean", "cosine", "top-1", "top-5", "NaN, Inf", "worst at"]
    note = (
        f"Over all {candidate.compared} examples, against the reference. Relative is the largest absolute error over "
        "the largest absolute value of the reference's output; it has no threshold where boxes are matched instead, "
        "and in outputs of class ids, strings or booleans, whose top-1 is the share that is equal. Worst at: number of "
        "the example, element in it."
    )
    return Table(heading, columns, rows, note)


def _box_facts(candidate: CandidateResult, heading: str, options: EvaluateOptions) -> Facts:
    boxes = candidate.boxes or BoxParity()
    threshold = next((check.threshold_text for check in candidate.checks if check.name == "min_box_iou"), NONE)
    items = [
        ("Boxes", f"{boxes.boxes}, of which {boxes.matched} have a match of their class in the other model"),
        ("Overlap (IoU)", f"{significant(boxes.mean_iou, 4)} in the mean of all, the threshold is {threshold}"),
        ("Scores", f"of a pair differ by at most {significant(boxes.max_score_error)}"),
    ]
    if boxes.worst_example is not None:
        items.append(("Worst", f"example {boxes.worst_example}, {significant(boxes.worst_iou)} in the mean"))
    return Facts(
        heading,
        items,
        f"Boxes with a score of {options.box_score:g} or more in either model, matched so that the overlaps add up to "
        "the most; a box without a match counts as an overlap of 0.",
    )


def _measured(result: EvaluateResult, evaluation: Evaluation) -> Facts:
    load, rounds = evaluation.load, len(evaluation.orders)
    sent = (
        f"single-stream (the next request when the last is answered), {rounds * load.block_requests} requests "
        f"of batch size {load.batch_size} to each model, timed in its own process"
    )
    order = (
        f"{rounds} rounds of blocks of {load.block_requests} requests, {REWARM_REQUESTS} untimed before each; "
        f"the models' order drawn anew in each round, seed {load.seed}"
    )
    labels = "with" if evaluation.labelled else "without"
    examples = f"{evaluation.examples}, {labels} labels; requests cycle over them"
    incumbent = result.incumbent.name if result.incumbent else f"not compared with, {result.no_incumbent}"
    items = [
        ("Reference", result.reference.name),
        ("Incumbent", incumbent),
        ("Examples", "; ".join([examples, *evaluation.example_notes])),
        ("Load", sent),
        ("Order", order),
    ]
    items += [
        (f"Warm-up, {model.label}", f"{model.warm_up.requests} requests: {model.warm_up.why}")
        for model in result.models
        if model.warm_up is not None
    ]
    return Facts(
        "How it was measured",
        items,
        "The intervals take requests as independent of each other. A percentile whose interval the sample does not "
        "bound is not printed. Limits of percentiles are judged by the exact binomial rule at 95 %.",
    )


def _machine(result: EvaluateResult, evaluation: Evaluation) -> Facts:
    hardware, before, after = evaluation.hardware, evaluation.before, evaluation.after
    gpus = [f"{gpu['name']}, {gpu['memory']}, driver {gpu['driver']}" for gpu in hardware["gpus"]] or ["none"]
    load = (
        f"{before['load_average'][0]:.2f} before, {after['load_average'][0]:.2f} after; others kept "
        f"{evaluation.others_busy_cores:.2f} cores busy meanwhile"
    )
    items = [
        ("CPU", f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB of memory"),
        *(("GPU", gpu) for gpu in gpus),
        ("Threads", f"{evaluation.threads} for each model"),
        ("Governor", before["governor"] or "not to be read"),
        ("Load average", load),
        *((model.label.capitalize(), _runner(model.runner)) for model in result.models if model.runner),
    ]
    return Facts("Machine and software", items)


def _runner(runner: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in runner.get("versions", {}).items())
    why = f"; {runner['why']}" if runner.get("why") else ""
    return f"{run_by(runner)} ({versions}){why}"


def _interval(estimate: Estimate | None, text: Callable[[float | None], str]) -> str:
    if estimate is None:
        return NONE
    lower, upper = (text(bound).split(" ")[0].rstrip("×") for bound in (estimate.lower, estimate.upper))
    return f"{text(estimate.value)} ({lower}–{upper})"


def _word(check: Check) -> str:
    word = check.verdict.replace("_", " ")
    return f"{word}, allowed" if check.verdict == "undecided" and check.allowed else word


def _place(example: int, element: tuple[int, ...]) -> str:
    return f"{example}" + (f", [{', '.join(map(str, element))}]" if element else "")
