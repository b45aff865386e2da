"""The verdict: every budget beside what was measured, and on what it was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from tpu2gpu.latency_evaluator.budgets.budget import Budget, budgets_of
from tpu2gpu.latency_evaluator.budgets.budgets import Budgets
from tpu2gpu.latency_evaluator.budgets.degenerate import check_degenerate
from tpu2gpu.latency_evaluator.budgets.measurements import Measurements
from tpu2gpu.latency_evaluator.budgets.verification_level import check_level
from tpu2gpu.latency_evaluator.results import Check, Gate, Outcome


def judge(budgets: Budgets, measured: Measurements) -> tuple[Check, ...]:
    """Check one candidate, in the order in which a reader wants to know.

    Args:
        budgets: The thresholds: an instance of `Budgets`, or of a class that declares more of them.
        measured: The candidate's measurements.
    """
    degenerate = check_degenerate(measured, allowed=budgets.allow_degenerate)
    checks = [_runs(measured), _same_signature(measured), _finite_outputs(measured), *_budgets(budgets, measured)]
    why = "" if budgets.require_level else "; a GPU is to serve it"
    if (level := check_level(budgets.required_level, measured.level, measured.level_reason, why)) is not None:
        checks.append(level)
    judged = (attrs.evolve(check, allowed=check.name in budgets.allow_undecided) for check in checks)
    return (*filter(None, [degenerate]), *judged)


def passed(checks: Sequence[Check], gate: Gate) -> bool:
    """Return whether all checks of a gate, and those of both, passed or may stay undecided."""
    return all(check.passed for check in checks if check.gate in (gate, "both"))


def judged_speed(budgets: Budgets, checks: Sequence[Check]) -> str:
    """Return what a verdict says of speed: `judged`, `undecided`, or `not_judged` where no budget of speed held."""
    of_speed = {name for name, budget in budgets_of(type(budgets)).items() if budget.of_speed}
    found = {check.verdict for check in checks if check.name in of_speed} - {"not_applicable"}
    if not found:
        return "not_judged"
    return "undecided" if found == {"undecided"} else "judged"


def _budgets(budgets: Budgets, measured: Measurements) -> Iterator[Check]:
    """Check the budgets that are asked for, and those whose defaults apply."""
    for name, budget in budgets_of(type(budgets)).items():
        asked = getattr(budgets, name)
        threshold, why = budget.threshold(asked, measured)
        if threshold is not None and (check := _check(name, budget, threshold, why, measured, asked=asked is not None)):
            yield check


def _check(
    name: str, budget: Budget, threshold: float, why: str, measured: Measurements, *, asked: bool
) -> Check | None:
    finding = budget.check(measured, threshold)
    if finding is None or not (asked or finding.applies):
        return None
    value, reason = finding.value, finding.reason
    verdict: Outcome
    if value is None:
        verdict = finding.verdict or "undecided"
    else:
        within = value <= threshold if name.startswith("max_") else value >= threshold
        verdict = finding.verdict or ("pass" if within else "fail")
        reason += f"; threshold for {why}" if why else ""
    if verdict == "pass" and finding.pass_needs:
        verdict, reason = "undecided", f"{reason}; a pass needs {finding.pass_needs}"
    return Check(name, value, threshold, verdict, reason, budget.gate, budget.against, unit=budget.unit)


def _runs(measured: Measurements) -> Check:
    if measured.failure:
        return Check("runs", "failed", "every request", "fail", measured.failure, "both")
    if not measured.latency_ms:
        return Check("runs", None, "every request", "undecided", "it was not asked, its inputs differ", "both")
    return Check("runs", "answered", "every request", "pass", "it loaded and answered every request", "both")


def _same_signature(measured: Measurements) -> Check:
    name, threshold, differences = "same_signature", "the same", measured.differences
    if differences:
        value = f"{len(differences)} difference{'s' * (len(differences) > 1)}"
        return Check(name, value, threshold, "fail", "; ".join(differences), "model", "reference")
    if not measured.parity:
        return Check(name, None, threshold, "undecided", "it gave no outputs to compare", "model", "reference")
    return Check(name, threshold, threshold, "pass", "names, types and shapes are the same", "model", "reference")


def _finite_outputs(measured: Measurements) -> Check:
    name = "finite_outputs"
    if not measured.parity:
        return Check(name, None, 0, "undecided", "there are no outputs to compare", "model", "reference")
    odd = {output: one for output, one in measured.parity.items() if one.nan_count or one.inf_count}
    if not odd:
        reason = f"no NaN or Inf beyond the reference's in {measured.examples} examples"
        return Check(name, 0, 0, "pass", reason, "model", "reference")
    reason = "; ".join(
        f"output {output} has {one.nan_count} NaN and {one.inf_count} Inf where the reference has numbers"
        for output, one in odd.items()
    )
    count = sum(one.nan_count + one.inf_count for one in odd.values())
    return Check(name, count, 0, "fail", reason, "model", "reference")
