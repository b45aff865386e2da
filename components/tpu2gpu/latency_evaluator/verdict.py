"""The verdict: every budget beside what was found, and on what it was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import numpy.typing as npt

from tpu2gpu.latency_evaluator.precision import default_limit
from tpu2gpu.latency_evaluator.quality import worst_agreement, worst_error
from tpu2gpu.latency_evaluator.results import Check, Gate, Verdict, run_by
from tpu2gpu.latency_evaluator.statistics import Estimate, judge_percentile, judge_speedup
from tpu2gpu.running.parity import OutputParity

if TYPE_CHECKING:
    from tpu2gpu.latency_evaluator.entry import Entry
    from tpu2gpu.latency_evaluator.evaluating import EvaluateOptions

Array = npt.NDArray[Any]

LEVELS = ("unverified", "saved_model", "onnx_cpu", "engine_built", "engine_executed")
DEFAULT_TOP1_AGREEMENT = 0.99
DEFAULT_ACCURACY_DROP = 0.01


@attrs.frozen(kw_only=True)
class Evidence:
    """What is known of a candidate when it is judged.

    Attributes:
        failure: What happened when it did not run to the end.
        differences: How its inputs and outputs differ in form from the baseline's.
        examples: How many examples were compared.
        parity: Its outputs against the baseline's; empty where they were not compared.
        precisions: The baseline's and the candidate's.
        accuracies: The baseline's and the candidate's.
        latency_ms: Its latencies, `[rounds, block]`; None where it was not measured.
        speedup: The latency baseline's p50 over the candidate's; None where the sample does not bound it.
        rival: What the latency baseline is called.
        level: On what the verdict is reached.
        level_reason: The same in words.
    """

    failure: str | None
    differences: Sequence[str]
    examples: int
    parity: Mapping[str, OutputParity]
    precisions: tuple[str, str]
    accuracies: tuple[float | None, float | None]
    latency_ms: Array | None
    speedup: Estimate | None
    rival: str
    level: str
    level_reason: str


def judge(options: EvaluateOptions, evidence: Evidence) -> tuple[Check, ...]:
    """All checks of one candidate, in the order in which a reader wants them."""
    checks = [
        _runs(evidence),
        _same_signature(evidence),
        _finite_outputs(evidence),
        _relative_error(options, evidence),
        _top1_agreement(options, evidence),
        _accuracy_drop(options, evidence),
        _p99(options, evidence),
        _speedup(options, evidence),
        _level(options, evidence),
    ]
    return tuple(
        attrs.evolve(check, allowed=check.name in options.allow_undecided) for check in checks if check is not None
    )


def holds(checks: Sequence[Check], gate: Gate) -> bool:
    """Whether all checks of a gate, and those of both, hold."""
    return all(check.holds for check in checks if check.gate in (gate, "both"))


def reached_level(entry: Entry, *, ran: bool) -> tuple[str, str]:
    """On what a candidate's verdict is reached, as a level and in words.

    Args:
        entry: The candidate.
        ran: Whether it answered at all.
    """
    runner = entry.description.get("runner", {})
    on = run_by(runner)
    if not ran:
        return "unverified", "The candidate did not answer: nothing of it is verified."
    if entry.executes_engine:
        return "engine_executed", f"The engine itself was run: {on}."
    if runner.get("kind") == "saved_model":
        return "saved_model", f"The candidate is a SavedModel, run by {on}."
    if any(part.get("engine") for part in entry.plan().get("parts", ())):
        return "engine_built", (
            f"Engine built, not executed ({runner.get('why')}): the verdict was reached on {on}, "
            "and the latencies are ONNX Runtime's, not the engine's."
        )
    return "onnx_cpu", f"There is no engine: the verdict was reached on {on}."


def _runs(evidence: Evidence) -> Check:
    if evidence.failure:
        return Check("runs", "failed", "every request", "fail", evidence.failure, "both")
    if evidence.latency_ms is None:
        return Check("runs", None, "every request", "undecided", "it was not asked, its inputs differ", "both")
    return Check("runs", "answered", "every request", "pass", "it loaded and answered every request", "both")


def _same_signature(evidence: Evidence) -> Check:
    limit = "the same"
    if evidence.differences:
        found = f"{len(evidence.differences)} difference{'s' * (len(evidence.differences) > 1)}"
        return Check("same_signature", found, limit, "fail", "; ".join(evidence.differences), "model")
    if not evidence.parity:
        return Check("same_signature", None, limit, "undecided", "it gave no answers to compare", "model")
    return Check("same_signature", limit, limit, "pass", "names, types and shapes are the same", "model")


def _finite_outputs(evidence: Evidence) -> Check:
    if not evidence.parity:
        return _not_compared("finite_outputs", 0)
    bad = [
        f"output {name} has {one.nan_count} NaN and {one.inf_count} Inf where the baseline has numbers"
        for name, one in evidence.parity.items()
        if one.nan_count or one.inf_count
    ]
    count = sum(one.nan_count + one.inf_count for one in evidence.parity.values())
    reason = "; ".join(bad) or f"no NaN or Inf beyond the baseline's in {evidence.examples} examples"
    return Check("finite_outputs", count, 0, "fail" if bad else "pass", reason, "model")


def _relative_error(options: EvaluateOptions, evidence: Evidence) -> Check:
    limit, why = default_limit(*evidence.precisions)
    if options.max_relative_error is not None:
        limit, why = options.max_relative_error, ""
    worst = worst_error(evidence.parity)
    if worst is None:
        return _not_compared("max_relative_error", limit)
    verdict: Verdict = "pass" if worst.value <= limit else "fail"
    one = evidence.parity[worst.output]
    reason = "the answers are the same, bit by bit"
    if worst.value:
        reason = f"output {worst.output}, example {one.worst_example}, element {list(one.worst_element)}"
        reason += f"; relative to the largest of the baseline, {one.max_abs_reference:.3g}"
    reason += f"; limit for {why}" if why else ""
    return Check("max_relative_error", worst.value, limit, verdict, reason, "model")


def _top1_agreement(options: EvaluateOptions, evidence: Evidence) -> Check | None:
    limit = DEFAULT_TOP1_AGREEMENT if options.min_top1_agreement is None else options.min_top1_agreement
    worst = worst_agreement(evidence.parity)
    if worst is None:
        if options.min_top1_agreement is None:
            return None
        why = "no float output [examples, classes] was compared"
        return Check("min_top1_agreement", None, limit, "undecided", why, "model")
    verdict: Verdict = "pass" if worst.value >= limit else "fail"
    same = round(worst.value * evidence.examples)
    reason = f"output {worst.output} has its largest score at the same class in {same} of {evidence.examples} examples"
    return Check("min_top1_agreement", worst.value, limit, verdict, reason, "model")


def _accuracy_drop(options: EvaluateOptions, evidence: Evidence) -> Check | None:
    limit = DEFAULT_ACCURACY_DROP if options.max_accuracy_drop is None else options.max_accuracy_drop
    baseline, candidate = evidence.accuracies
    if baseline is None or candidate is None:
        if options.max_accuracy_drop is None and baseline is None:
            return None
        missing = "the examples have no labels, or no output is float [examples, classes]"
        why = missing if baseline is None else "there are no answers"
        return Check("max_accuracy_drop", None, limit, "undecided", why, "model")
    drop = baseline - candidate
    verdict: Verdict = "pass" if drop <= limit + 1e-12 else "fail"
    reason = f"from {baseline:.2%} to {candidate:.2%} on {evidence.examples} examples"
    return Check("max_accuracy_drop", drop, limit, verdict, reason, "model")


def _p99(options: EvaluateOptions, evidence: Evidence) -> Check | None:
    limit = options.max_p99_ms
    if limit is None:
        return None
    if evidence.latency_ms is None:
        return _not_measured("max_p99_ms", limit)
    verdict = judge_percentile(evidence.latency_ms.ravel(), 99, limit)
    found = float(np.quantile(evidence.latency_ms, 0.99, method="inverted_cdf"))
    reason = f"{verdict.exceedances} of {verdict.requests} requests took longer"
    if verdict.verdict == "undecided":
        reason += f"; a pass with {verdict.exceedances} needs {verdict.needed_requests} requests"
    return Check("max_p99_ms", found, limit, verdict.verdict, reason, "infra")


def _speedup(options: EvaluateOptions, evidence: Evidence) -> Check | None:
    limit = options.min_speedup
    if limit is None:
        return None
    if evidence.latency_ms is None:
        return _not_measured("min_speedup", limit)
    if evidence.speedup is None:
        return Check("min_speedup", None, limit, "undecided", "too few rounds to bound the ratio", "infra")
    ratio = evidence.speedup
    reason = (
        f"p50 of the {evidence.rival} over p50 of the candidate, 95 % interval {ratio.lower:.3g} to {ratio.upper:.3g}"
    )
    return Check("min_speedup", ratio.value, limit, judge_speedup(ratio, limit), reason, "infra")


def _level(options: EvaluateOptions, evidence: Evidence) -> Check | None:
    wanted = options.require_level
    if wanted is None:
        return None
    enough = LEVELS.index(evidence.level) >= LEVELS.index(wanted)
    return Check(
        "require_level",
        evidence.level,
        wanted,
        "pass" if enough else "fail",
        evidence.level_reason.rstrip("."),
        "infra",
    )


def _not_compared(name: str, limit: float) -> Check:
    return Check(name, None, limit, "undecided", "there are no answers to compare", "model")


def _not_measured(name: str, limit: float) -> Check:
    return Check(name, None, limit, "undecided", "it was not measured", "infra")
