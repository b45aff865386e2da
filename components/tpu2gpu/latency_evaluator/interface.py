"""The interface of the LatencyEvaluator's step."""

from __future__ import annotations

from tpu2gpu.interface import (
    EXAMPLES,
    INFRA_BLESSING,
    METRICS,
    MODEL,
    MODEL_BLESSING,
    REPORT,
    StepInterface,
    TextParameter,
)
from tpu2gpu.latency_evaluator.options import EvaluateOptions

LATENCY_EVALUATOR = StepInterface(
    component="tpu2gpu.latency_evaluator.component.LatencyEvaluator",
    summary="Measure a candidate on real examples, and bless or refuse it.",
    options=EvaluateOptions,
    inputs={"model": MODEL, "reference": MODEL, "examples": EXAMPLES},
    outputs={
        "infra_blessing": INFRA_BLESSING,
        "model_blessing": MODEL_BLESSING,
        "metrics": METRICS,
        "report": REPORT,
    },
    parameters={
        "promotion_uri": TextParameter("folder of promoted models, whose newest is the incumbent"),
        "split": TextParameter("the split of the examples that is used", "eval"),
        "hardware": TextParameter("names of what measures, for caches that ask for them", ""),
    },
)
