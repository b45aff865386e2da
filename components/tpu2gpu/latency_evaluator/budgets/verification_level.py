"""On what a verdict is reached: from a model that never ran to an engine that ran on its GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tpu2gpu.latency_evaluator.results import Check, run_by
from tpu2gpu.storage.promotion.verdicts import LEVELS

if TYPE_CHECKING:
    from tpu2gpu.latency_evaluator.statistics.intervals import Verdict

# For each of the levels the sentence that tells it.
_REASONS = {
    "unverified": "The candidate did not run: nothing of it is verified.",
    "saved_model": "The candidate is a SavedModel, run by {on}.",
    "onnx_cpu": "There is no engine: the verdict was reached on {on}.",
    "onnx_gpu": "ONNX Runtime's GPU kernels were run, if no engine that is known of: {on}.",
    "engine_built": "Engine built, not executed ({why}): the verdict was reached on {on}, and the latencies are ONNX "
    "Runtime's, not the engine's.",
    "engine_executed": "The engine itself was run: {on}.",
}
_OF_WHAT_RUNS = {"engine": "engine_executed", "saved_model": "saved_model"}


def reached_level(runner: Mapping[str, Any], *, has_engine: bool, ran: bool) -> tuple[str, str]:
    """Return on what a candidate's verdict is reached, as a level and in words.

    Args:
        runner: The description of the candidate's runner.
        has_engine: Whether an engine lies among the candidate's files.
        ran: Whether the candidate ran at all.
    """
    level = _level(runner, has_engine) if ran else "unverified"
    return level, _REASONS[level].format(on=run_by(runner), why=runner.get("why"))


def _level(runner: Mapping[str, Any], has_engine: bool) -> str:
    runs = runner.get("runs") or runner.get("kind")
    if runs in _OF_WHAT_RUNS:
        return _OF_WHAT_RUNS[runs]
    if has_engine:
        return "engine_built"
    return "onnx_gpu" if runs == "onnx" and str(runner.get("device")).startswith("GPU") else "onnx_cpu"


def check_level(required: str | None, level: str, reason: str, why: str = "") -> Check | None:
    """Check whether a level is enough; None where none is required.

    Args:
        required: The level that is required.
        level: The level that was reached.
        reason: The same in words.
        why: Why a level is required that nobody asked for.
    """
    if required is None:
        return None
    verdict: Verdict = "pass" if LEVELS.index(level) >= LEVELS.index(required) else "fail"
    return Check("require_level", level, required, verdict, reason.rstrip(".") + why, "infra")
