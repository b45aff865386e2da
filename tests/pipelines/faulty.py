"""Pipelines and training functions with faults, for the tests of the local runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tpu2gpu.errors import EnvironmentLacksError
from tpu2gpu_pipelines.settings import Settings, TrainingOptions


def run_fn(fn_args: Any) -> None:
    raise IndexError("list index out of range,\nsaid the user's code")


def interrupted_run_fn(fn_args: Any) -> None:
    Path(fn_args.serving_model_dir).mkdir(parents=True)
    (Path(fn_args.serving_model_dir) / "half").write_text("written")
    raise KeyboardInterrupt


def refusing_run_fn(fn_args: Any) -> None:
    raise EnvironmentLacksError("TPU 'local': does not answer", hint="unset TPU_NAME")


def examples_only(settings: Settings) -> Any:
    from tfx.orchestration.pipeline import Pipeline

    from tpu2gpu_pipelines.examples import DigitExamples

    return Pipeline(settings.name, settings.pipeline_root, components=[DigitExamples()], enable_cache=settings.cache)


def with_trainer(settings: Settings, run_fn: str) -> Any:
    from tfx.orchestration.pipeline import Pipeline

    from tpu2gpu_pipelines.examples import DigitExamples
    from tpu2gpu_pipelines.tpu_to_gpu import make_trainer

    examples = DigitExamples()
    trainer = make_trainer(examples.outputs["examples"], TrainingOptions(run_fn=f"tests.pipelines.faulty.{run_fn}"))
    return Pipeline(settings.name, settings.pipeline_root, components=[examples, trainer], enable_cache=True)
