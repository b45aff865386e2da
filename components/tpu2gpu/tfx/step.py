"""What TFX hands to a step: its artifacts, options and run; and what a step tells of its progress and figures."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from tpu2gpu import options as option_forms

RUN_VARIABLE, PIPELINE_VARIABLE = "TPU2GPU_RUN", "TPU2GPU_PIPELINE"
_RUNNER = "--runner="

Options = TypeVar("Options")
Artifacts = Mapping[str, Sequence[Any]]


@attrs.frozen
class Step:
    """What TFX hands to an executor.

    Attributes:
        executor: The executor itself, which knows its run.
        inputs: Artifacts by key.
        outputs: Artifacts by key.
        properties: Execution properties.
    """

    executor: Any
    inputs: Artifacts
    outputs: Artifacts
    properties: Mapping[str, Any]

    def input(self, key: str) -> Any:
        """Return the one artifact of an input, or None where an optional input is not connected."""
        artifacts = self.inputs.get(key) or [None]
        return artifacts[0]

    def output(self, key: str) -> Any:
        """Return the one artifact of an output."""
        return self.outputs[key][0]

    def options(self, cls: type[Options]) -> Options:
        """Return the step's options; with the pipeline's Beam arguments, where those name a runner and they do not."""
        options = option_forms.from_json(cls, self.properties["options"])
        return on_runner(options, getattr(self.executor, "_beam_pipeline_args", None) or [])

    @property
    def run_name(self) -> str:
        """The pipeline run's name; where TFX does not tell it to executors, the environment does."""
        context = getattr(self.executor, "_context", None)
        return getattr(context, "pipeline_run_id", None) or os.environ.get(RUN_VARIABLE, "")

    @property
    def pipeline_name(self) -> str:
        """The pipeline's name, found as the run's is."""
        info = getattr(getattr(self.executor, "_context", None), "pipeline_info", None)
        return getattr(info, "id", "") or os.environ.get(PIPELINE_VARIABLE, "")

    def heading(self, title: str) -> str:
        """Return a title under the pipeline's name: `digits: frozen`."""
        return f"{self.pipeline_name}: {title}" if self.pipeline_name else title


def on_runner(options: Options, arguments: Iterable[str]) -> Options:
    """Return options with the runner of a pipeline's Beam arguments, where those name one and the options do not."""
    given: Any = options
    runners = [it.removeprefix(_RUNNER) for it in arguments if it.startswith(_RUNNER)]
    if not runners or given.runner:
        return options
    rest = tuple(it for it in arguments if not it.startswith(_RUNNER))
    changed: Options = attrs.evolve(given, runner=runners[-1], beam=rest)
    return changed


def log_progress(what: str, done: int, total: int) -> None:
    """Tell the log how far a step is."""
    logging.getLogger("tpu2gpu").info("%s (%d of %d)", what, done, total)


def figures(result: Any) -> dict[str, bool | int | float]:
    """Return the named numbers of a function's result: its `metrics`, where it has them, else its fields."""
    values = getattr(result, "metrics", None) or _fields(result)
    return {name: value for name, value in values.items() if isinstance(value, bool | int | float)}


def words(result: Any) -> dict[str, str]:
    """Return the fields of a function's result that are text, such as a version."""
    return {name: value for name, value in _fields(result).items() if isinstance(value, str)}


def _fields(result: Any) -> dict[str, Any]:
    return {field.name: getattr(result, field.name) for field in attrs.fields(type(result))}
