"""The verdict: every budget beside what was found, and on what it was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from tpu2gpu.latency_evaluator.budgets.accuracy_checks import check_answers
from tpu2gpu.latency_evaluator.budgets.evidence import Evidence
from tpu2gpu.latency_evaluator.budgets.latency_checks import check_speed
from tpu2gpu.latency_evaluator.budgets.verification_level import check_level
from tpu2gpu.latency_evaluator.results import Check, Gate

if TYPE_CHECKING:
    from tpu2gpu.latency_evaluator.budgets.budgets import Budgets


def judge(budgets: Budgets, evidence: Evidence) -> tuple[Check, ...]:
    """All checks of one candidate, in the order in which a reader wants them."""
    checks = [
        _runs(evidence),
        *check_answers(budgets, evidence),
        *check_speed(budgets, evidence),
        check_level(budgets, evidence.level, evidence.level_reason),
    ]
    return tuple(
        attrs.evolve(check, allowed=check.name in budgets.allow_undecided) for check in checks if check is not None
    )


def holds(checks: Sequence[Check], gate: Gate) -> bool:
    """Whether all checks of a gate, and those of both, hold."""
    return all(check.holds for check in checks if check.gate in (gate, "both"))


def _runs(evidence: Evidence) -> Check:
    if evidence.failure:
        return Check("runs", "failed", "every request", "fail", evidence.failure, "both")
    if not evidence.latency_ms:
        return Check("runs", None, "every request", "undecided", "it was not asked, its inputs differ", "both")
    return Check("runs", "answered", "every request", "pass", "it loaded and answered every request", "both")
