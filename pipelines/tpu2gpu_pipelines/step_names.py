"""The names of the main pipeline's steps and run parameters, known without TFX, which takes seconds to import."""

from __future__ import annotations

from tpu2gpu_pipelines.settings import Settings

TRAINER, CHECKPOINT, EXAMPLES = "Trainer", "Checkpoint", "DigitExamples"
EVALUATOR, PUSHER = "LatencyEvaluator", "ModelPusher"
_ALWAYS = ("CheckpointImporter", "PrecisionCaster", "Freezer", "TRTConverter", EVALUATOR, PUSHER)


def step_names(settings: Settings) -> tuple[str, ...]:
    """Return the names of the main pipeline's steps, in their order."""
    return EXAMPLES, CHECKPOINT if settings.checkpoint else TRAINER, *_ALWAYS


def parameter_names(settings: Settings) -> tuple[str, ...]:
    """Return the names that a run parameter of the main pipeline can have."""
    trained = ("checkpoint_uri",) if settings.checkpoint else ("custom_config", "eval_args", "run_fn", "train_args")
    return "data_uri", "promotion_uri", *trained, "hardware", "options", "source_sha256", "split"
