"""Runs a LatencyEvaluator."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor

from tpu2gpu.latency_evaluator.evaluating import evaluate_model
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.storage.promotion.stock_pusher import newest_version
from tpu2gpu.tfx.artifacts import bless, examples_folder, model_source, write_metrics, write_report
from tpu2gpu.tfx.step import Step, log_progress, on_runner

_BOUND_TO = ("candidate_digest", "baseline_digest", "hardware_fingerprint", "verified_level")


class Executor(BaseBeamExecutor):
    """Evaluates with `tpu2gpu.evaluate_model`; a refusal is a published verdict, and the step ends normally."""

    def Do(  # noqa: N802 - TFX's name
        self, input_dict: dict[str, list[Any]], output_dict: dict[str, list[Any]], exec_properties: dict[str, Any]
    ) -> None:
        """Run the step; an error of the tree says why there can be no verdict."""
        step = Step(self, input_dict, output_dict, exec_properties)
        candidate = step.input("model")
        options = on_runner(step.options(EvaluateOptions), self._beam_pipeline_args or [])
        # Beam's workers leave their results beside the evaluation: where they see the step's outputs.
        shared = Path(step.output("report").uri).parent if options.runner else None
        with tempfile.TemporaryDirectory(prefix="tpu2gpu-evaluation-", dir=shared) as scratch:
            result = evaluate_model(
                model_source(step.input("baseline")),
                [model_source(candidate)],
                [str(examples_folder(step.input("examples"), exec_properties["split"]))],
                Path(scratch) / "evaluation",
                options,
                latency_baseline=newest_version(exec_properties["promotion_uri"]),
                run_name=step.run_name,
                progress=log_progress,
            )
            figures = json.loads((result.target / "metrics.json").read_text(encoding="utf-8"))
            verdict = json.loads((result.target / "verdict.json").read_text(encoding="utf-8"))
            write_metrics(step.output("metrics"), figures)
            write_report(step.output("report"), result.target, "report.html")
        reasons = "\n".join(result.candidate.reasons)
        bound_to = {name: str(verdict[name]) for name in _BOUND_TO}
        for output, blessed in (("infra", result.infra_blessed), ("model", result.model_blessed)):
            artifact = step.output(f"{output}_blessing")
            bless(artifact, blessed, candidate=candidate, reasons=reasons, bound_to=bound_to)
