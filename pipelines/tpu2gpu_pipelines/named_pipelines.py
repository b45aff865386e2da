"""The pipelines that have a name, with the settings that each starts from."""

from __future__ import annotations

from pathlib import Path

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.options import did_you_mean
from tpu2gpu_pipelines.settings import Settings, load_settings

_HERE = Path(__file__).parent


@attrs.frozen
class NamedPipeline:
    """A pipeline that `--pipeline` takes by its name.

    Attributes:
        path: Of the function that makes it, `MODULE:FUNCTION`.
        settings_file: What it is told unless a settings file says otherwise; nothing where that is the classes' own.
    """

    path: str
    settings_file: Path | None = None


NAMED_PIPELINES = {
    "digits": NamedPipeline("tpu2gpu_pipelines.tpu_to_gpu:create_pipeline"),
    "detector": NamedPipeline("tpu2gpu_pipelines.detector:create_pipeline", _HERE / "detector.yaml"),
}


def path_of(pipeline: str) -> str:
    """Return `MODULE:FUNCTION` for a pipeline's name, or what was given where that has this form already.

    Raises:
        UsageError: It is neither.
    """
    if named := NAMED_PIPELINES.get(pipeline):
        return named.path
    if not all(pipeline.partition(":")):
        hint = did_you_mean(pipeline, NAMED_PIPELINES) or f"or one of {', '.join(NAMED_PIPELINES)}"
        raise UsageError(f"--pipeline {pipeline}: must be MODULE:FUNCTION", hint=hint)
    return pipeline


def settings_of(pipeline: str) -> Settings:
    """Return the settings that a pipeline starts from.

    Args:
        pipeline: Its name, or `MODULE:FUNCTION`.
    """
    file = next((it.settings_file for it in NAMED_PIPELINES.values() if it.path == path_of(pipeline)), None)
    return load_settings(file) if file else Settings()
