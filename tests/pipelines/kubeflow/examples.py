"""The example settings, and what they compile to: nothing of TFX is needed to read either."""

from __future__ import annotations

from pathlib import Path

import yaml

import tpu2gpu_pipelines.kubeflow
from tpu2gpu_pipelines.kubeflow.compiler.compiling import CompiledPipeline

EXAMPLES = Path(tpu2gpu_pipelines.kubeflow.__file__).parent / "settings"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
GOLDEN = Path(__file__).parent / "golden"


def golden_pipeline(name: str) -> CompiledPipeline:
    """A compiled pipeline, as its golden file has it."""
    spec, *platform = yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text())
    return CompiledPipeline(spec["pipelineInfo"]["name"], spec, platform[0] if platform else None)
