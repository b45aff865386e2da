"""The LatencyEvaluator component."""

from __future__ import annotations

import json
from pathlib import Path

from tfx.types.channel import BaseChannel

from tpu2gpu.latency_evaluator.evaluating import evaluate_model
from tpu2gpu.latency_evaluator.interface import LATENCY_EVALUATOR
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.storage.promotion.promoting import fetched_incumbent, model_name
from tpu2gpu.storage.unfinished import scratch
from tpu2gpu.tfx.artifacts import bless, examples_folder, model_source, write_metrics, write_report
from tpu2gpu.tfx.component_base import BeamStepComponent
from tpu2gpu.tfx.step import Step, log_progress

_BOUND_TO = ("candidate_digest", "reference_digest", "incumbent_digest", "hardware_fingerprint", "verified_level")


class LatencyEvaluator(BeamStepComponent):
    """Measures a candidate on real examples, and blesses or refuses it.

    Outputs: `infra_blessing` (the latency verdict), `model_blessing` (the parity verdict), `metrics`, `report`. The
    stock Pusher, given both blessings, pushes nothing that was refused. Outputs are compared on Beam where the
    pipeline's `beam_pipeline_args` name a `--runner`, over more examples than one machine holds; timing never is.

    Args:
        model: The candidate: a serving folder.
        reference: The model that the candidate must agree with.
        examples: Real examples.
        promotion_uri: Where promoted models stand. What is served there when the step runs is the incumbent.
        options: What to measure, and the budgets.
        split: The examples' split that is used.
        hardware: Names of what measures. A verdict is not served from the cache on other hardware.
    """

    FUNCTION = evaluate_model
    INTERFACE = LATENCY_EVALUATOR

    def __init__(
        self,
        model: BaseChannel,
        reference: BaseChannel,
        examples: BaseChannel,
        promotion_uri: str,
        options: EvaluateOptions | None = None,
        split: str = "eval",
        hardware: str = "",
    ) -> None:
        super().__init__(
            options,
            model=model,
            reference=reference,
            examples=examples,
            promotion_uri=promotion_uri,
            split=split,
            hardware=hardware,
        )

    @classmethod
    def run(cls, step: Step) -> None:
        """Evaluate; a refusal is a published verdict, and the step ends normally.

        Raises:
            Tpu2GpuError: There can be no verdict, and why.
        """
        candidate, options = step.input("model"), cls.options(step)
        source = model_source(candidate)
        # Beam's workers leave their results beside the evaluation: where they see the step's outputs.
        shared = Path(step.output("report").uri).parent if options.runner else None
        with (
            scratch(shared) as temporary,
            fetched_incumbent(step.properties["promotion_uri"], model_name(source)) as incumbent,
        ):
            result = evaluate_model(
                model_source(step.input("reference")),
                [source],
                [str(examples_folder(step.input("examples"), step.properties["split"]))],
                temporary / "evaluation",
                options,
                incumbent=incumbent,
                name=step.pipeline_name,
                run_name=step.run_name,
                progress=log_progress,
            )
            figures = json.loads((result.target / "metrics.json").read_text(encoding="utf-8"))
            verdict = json.loads((result.target / "verdict.json").read_text(encoding="utf-8"))
            write_metrics(step.output("metrics"), figures, title=result.heading)
            write_report(step.output("report"), result.target, "report.html", title=result.heading)
        reasons = "\n".join(result.candidate.reasons)
        bound_to = {name: str(verdict[name] or "") for name in _BOUND_TO}
        for output, blessed in (("infra", result.infra_blessed), ("model", result.model_blessed)):
            artifact = step.output(f"{output}_blessing")
            bless(artifact, blessed, candidate=candidate, reasons=reasons, bound_to=bound_to)
