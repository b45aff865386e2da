"""Write the golden files anew: `python -m tests.pipelines.kubeflow.write_golden`, then look at the difference."""

from __future__ import annotations

from tests.pipelines.kubeflow import pipelines_to_compile
from tests.pipelines.kubeflow.examples import EXAMPLES, GOLDEN, NAMES
from tests.pipelines.kubeflow.test_compiling import compiled_by_name, compiled_with, golden_text
from tpu2gpu_pipelines.kubeflow.compiler.compiling import compile_pipeline
from tpu2gpu_pipelines.local import DEFAULT_PIPELINE, find_pipeline
from tpu2gpu_pipelines.settings import load_settings

if __name__ == "__main__":
    create = find_pipeline(DEFAULT_PIPELINE)
    for name in NAMES:
        compiled = compile_pipeline(load_settings(EXAMPLES / f"{name}.yaml"), create)
        (GOLDEN / f"{name}.yaml").write_text(golden_text(compiled))
    (GOLDEN / "importing.yaml").write_text(golden_text(compiled_with(pipelines_to_compile.importing_pipeline)))
    (GOLDEN / "detector.yaml").write_text(golden_text(compiled_by_name("detector")))
