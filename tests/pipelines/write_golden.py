"""Writes the golden files anew: `python -m tests.pipelines.write_golden`, then look at the difference."""

from __future__ import annotations

from tests.pipelines import kubeflow_pipelines
from tests.pipelines.kubeflow_examples import EXAMPLES, GOLDEN, NAMES
from tests.pipelines.test_kubeflow_compiling import compiled_with, golden_text
from tpu2gpu_pipelines.kubeflow.compiling import compile_pipeline
from tpu2gpu_pipelines.local import DEFAULT_PIPELINE, find_pipeline
from tpu2gpu_pipelines.settings import load_settings

if __name__ == "__main__":
    create = find_pipeline(DEFAULT_PIPELINE)
    for name in NAMES:
        compiled = compile_pipeline(load_settings(EXAMPLES / f"{name}.yaml"), create)
        (GOLDEN / f"{name}.yaml").write_text(golden_text(compiled))
    (GOLDEN / "importing.yaml").write_text(golden_text(compiled_with(kubeflow_pipelines.importing_pipeline)))
