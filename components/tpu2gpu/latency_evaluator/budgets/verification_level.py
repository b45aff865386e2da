"""On what a verdict is reached: from a model that never ran to an engine that ran on its GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpu2gpu.latency_evaluator.results import Check, run_by
from tpu2gpu.latency_evaluator.statistics.intervals import Verdict

if TYPE_CHECKING:
    from tpu2gpu.latency_evaluator.budgets.budgets import Budgets
    from tpu2gpu.latency_evaluator.measure.model_process import ModelProcess

LEVELS = ("unverified", "saved_model", "onnx_cpu", "onnx_gpu", "engine_built", "engine_executed")
_ONNX = {"onnx", "onnxruntime"}  # what our runners and Triton call it


def reached_level(model: ModelProcess, *, ran: bool) -> tuple[str, str]:
    """Return on what a candidate's verdict is reached, as a level and in words.

    Args:
        model: The candidate.
        ran: Whether it ran at all.
    """
    runner = model.description.get("runner", {})
    on = run_by(runner)
    if not ran:
        return "unverified", "The candidate did not run: nothing of it is verified."
    if model.executes_engine:
        return "engine_executed", f"The engine itself was run: {on}."
    if "saved_model" in (runner.get("kind"), runner.get("runs")):
        return "saved_model", f"The candidate is a SavedModel, run by {on}."
    if any(part.engine.file for part in model.parts):
        return "engine_built", (
            f"Engine built, not executed ({runner.get('why')}): the verdict was reached on {on}, "
            "and the latencies are ONNX Runtime's, not the engine's."
        )
    if str(runner.get("device")).startswith("GPU") and _ONNX & {runner.get("kind"), runner.get("runs")}:
        return "onnx_gpu", f"ONNX Runtime's GPU kernels were run, if no engine that is known of: {on}."
    return "onnx_cpu", f"There is no engine: the verdict was reached on {on}."


def required_level(budgets: Budgets) -> str | None:
    """Return the level that is asked for: `require_level`, else an executed engine where a GPU will serve."""
    return budgets.require_level or ("engine_executed" if budgets.serve_on == "gpu" else None)


def check_level(budgets: Budgets, level: str, reason: str) -> Check | None:
    """Check whether a level is enough; None where none is asked for."""
    wanted = required_level(budgets)
    if wanted is None:
        return None
    verdict: Verdict = "pass" if LEVELS.index(level) >= LEVELS.index(wanted) else "fail"
    why = "" if budgets.require_level else "; a GPU is to serve it"
    return Check("require_level", level, wanted, verdict, reason.rstrip(".") + why, "infra")
