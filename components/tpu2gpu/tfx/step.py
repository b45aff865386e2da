"""What the executors share: how a step finds its artifacts, options and run, and tells how far it is."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from tpu2gpu import options as option_forms

RUN_VARIABLE = "TPU2GPU_RUN"
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
        """The one artifact of an input, or None where an optional input is not connected."""
        artifacts = self.inputs.get(key) or [None]
        return artifacts[0]

    def output(self, key: str) -> Any:
        """The one artifact of an output."""
        return self.outputs[key][0]

    def options(self, cls: type[Options]) -> Options:
        """The step's options."""
        return option_forms.from_json(cls, self.properties["options"])

    @property
    def run_name(self) -> str:
        """The pipeline run's name; where TFX does not tell it to executors, the environment does."""
        context = getattr(self.executor, "_context", None)
        return getattr(context, "pipeline_run_id", None) or os.environ.get(RUN_VARIABLE, "")


def on_runner(options: Options, arguments: Iterable[str]) -> Options:
    """A step's options with the pipeline's Beam arguments, where those name a runner and the options do not."""
    given: Any = options
    runners = [it.removeprefix(_RUNNER) for it in arguments if it.startswith(_RUNNER)]
    if given.runner or not runners:
        return options
    rest = tuple(it for it in arguments if not it.startswith(_RUNNER))
    changed: Options = attrs.evolve(given, runner=runners[-1], beam=rest)
    return changed


def log_progress(what: str, done: int, total: int) -> None:
    """Tell the log how far a step is."""
    logging.getLogger("tpu2gpu").info("%s (%d of %d)", what, done, total)


def figures(result: Any) -> dict[str, bool | int | float]:
    """The named numbers of a function's result."""
    values = {field.name: getattr(result, field.name) for field in attrs.fields(type(result))}
    return {name: value for name, value in values.items() if isinstance(value, bool | int | float)}
