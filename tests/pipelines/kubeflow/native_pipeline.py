"""Pipelines that are written with KFP's SDK alone, the README's too; compiled where TFX cannot be imported.

native_pipeline.py FILE PROMOTED [IMAGE]
"""

import os
import re
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

ABSENT = {"tfx", "tensorflow", "apache_beam", "ml_metadata", "numpy"}
README = Path(__file__).resolve().parents[3] / "docs" / "pipelines.md"


class Absent(MetaPathFinder):
    """Makes packages ones that are not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)


def main(out: str, promoted: str, image: str = "tpu2gpu:cpu") -> None:
    from kfp import compiler, dsl

    from tpu2gpu_pipelines.kubeflow import components
    from tpu2gpu_pipelines.settings import make_settings

    ours = components.of_image(image)
    sections = {
        "convert": {"backend": "onnx"},
        "evaluate": {"requests": 40, "max_examples": 40, "block_requests": 10, "max_p99_ms": 5000},
        "promotion_uri": promoted,
    }
    settings = make_settings(sections, "the test")

    @dsl.pipeline(name="native")
    def pipeline(trained: str, to: str = "float16", max_p99_ms: float = 5000.0) -> None:
        """Written out, so that options come from the run."""
        data = ours.write_digits(eval_fraction=0.2)
        source = dsl.importer(artifact_uri=trained, artifact_class=dsl.Artifact)
        model = ours.import_checkpoint(checkpoint=source.output)
        half = ours.cast_model(source_model=model.outputs["model"], to=to, keep=["^logits/"])
        frozen = ours.freeze_model(source_model=half.outputs["model"])
        serving = ours.convert_model_on_examples(
            source_model=frozen.outputs["model"], examples=data.output, backend="onnx", name="digits"
        )
        verdict = ours.evaluate_model(
            model=serving.outputs["model"],
            reference=model.outputs["model"],
            examples=data.output,
            promotion_uri=promoted,
            requests=300,
            max_examples=40,
            block_requests=50,
            max_p99_ms=max_p99_ms,
            allow_degenerate=True,  # its weights are random
        )
        ours.promote_model(
            model=serving.outputs["model"],
            model_blessing=verdict.outputs["model_blessing"],
            infra_blessing=verdict.outputs["infra_blessing"],
            promotion_uri=promoted,
        )

    @dsl.pipeline(name="tail")
    def tail(trained: str) -> None:
        """The same by `gpu_serving`."""
        data = ours.write_digits()
        source = dsl.importer(artifact_uri=trained, artifact_class=dsl.Artifact)
        components.gpu_serving(checkpoint=source.output, examples=data.output, settings=settings, components=ours)

    compiler.Compiler().compile(pipeline, out)
    compiler.Compiler().compile(tail, out.replace(".yaml", "_tail.yaml"))
    for name in components.component_set.NAMES:
        compiler.Compiler().compile(getattr(ours, name), out.replace(".yaml", f"_{name}.yaml"))

    (example,) = re.findall(r"```python\n(from kfp import compiler, dsl\n.*?)```", README.read_text(), re.DOTALL)
    os.chdir(Path(out).parent)
    exec(example, {})


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent())
    main(*sys.argv[1:])
