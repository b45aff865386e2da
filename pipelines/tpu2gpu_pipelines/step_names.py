"""The names of the main pipeline's steps and run parameters, known without TFX, which takes seconds to import."""

from __future__ import annotations

from tpu2gpu_pipelines.settings import Settings

TRAINER, CHECKPOINT = "Trainer", "Checkpoint"
EVALUATOR, PUSHER = "LatencyEvaluator", "ModelPusher"
_ALWAYS = ("CheckpointImporter", "PrecisionCaster", "Freezer", "TRTConverter", EVALUATOR, PUSHER)


def step_names(settings: Settings) -> tuple[str, ...]:
    """Return the names of the main pipeline's steps, in their order."""
    return examples_name(settings, "DigitExamples"), CHECKPOINT if settings.checkpoint else TRAINER, *_ALWAYS


def examples_name(settings: Settings, made: str) -> str:
    """Return the name of the step that brings the examples: `made` where it makes them, not where they are the user's.

    Args:
        settings: What the steps are told.
        made: What a step is called that makes examples of its own.
    """
    return "Examples" if settings.data_uri else made


def parameter_names(settings: Settings) -> tuple[str, ...]:
    """Return the names that a run parameter of the main pipeline can have."""
    trained = ("checkpoint_uri",) if settings.checkpoint else ("custom_config", "eval_args", "run_fn", "train_args")
    return "data_uri", "promotion_uri", *trained, "hardware", "options", "source_sha256", "split"
