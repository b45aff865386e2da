"""Makes a container component of KFP's SDK from a step's interface; TFX is not needed, and not imported.

Every option is a parameter of the component, with its default, so that a run can be told it and the dashboard shows it.
In the container runs the entrypoint that steps compiled from TFX have.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Iterator
from typing import Any

import attrs
from kfp import dsl
from kfp.dsl import pipeline_channel, pipeline_task
from kfp.dsl.container_component_class import ContainerComponent

from tpu2gpu import options as option_forms
from tpu2gpu.errors import UsageError
from tpu2gpu.interface import EXAMPLES, METRICS, MODEL, REPORT, StepInterface
from tpu2gpu.options import did_you_mean, field_types
from tpu2gpu.sources.digest import source_digest
from tpu2gpu_pipelines.kubeflow.compiler.specification import (
    CLASS_FLAG,
    ENTRYPOINT,
    INPUT_FLAG,
    OPTIONS_FLAG,
    OUTPUTS_FLAG,
    RUN_FLAG,
    SOURCES_FLAG,
    TYPES_FLAG,
)

# KFP's SDK allows no types of one's own; the entrypoint is told them.
_KINDS = {MODEL: dsl.Model, EXAMPLES: dsl.Dataset, METRICS: dsl.Metrics, REPORT: dsl.HTML}
_VERSION = "0.0.1"


class StepContainer(ContainerComponent):
    """A step as a component of KFP's SDK.

    Args:
        interface: What goes in and out.
        name: The component's name, as a function's.
        image: The container image.
        connect: Which of the interface's optional inputs it takes: KFP's local runner knows none that is not connected.
        cached: Let Kubeflow serve a former result again.
    """

    def __init__(
        self, interface: StepInterface, name: str, image: str, *, connect: Collection[str] = (), cached: bool = True
    ) -> None:
        self.interface, self.image, self._cached = interface, image, cached
        self._artifacts = {
            **interface.inputs,
            **{key: title for key, title in interface.optional_inputs.items() if key in connect},
        }
        made = dsl.container_component(self._make_function(name))
        super().__init__(component_spec=made.component_spec, pipeline_func=made.pipeline_func)
        self.__name__, self.__doc__ = name, made.pipeline_func.__doc__

    def __call__(self, **given: Any) -> pipeline_task.PipelineTask:
        """Add the step to the pipeline that is being defined.

        Args:
            given: Artifacts and parameters.

        Raises:
            UsageError: An option is unknown, or its value is not allowed; KFP has no None but as a default.
        """
        self._check(given)
        task = super().__call__(
            **{name: self._typed(name, value) for name, value in given.items() if value is not None}
        )
        if not self._cached and task.state is pipeline_task.TaskState.FUTURE:
            task.set_caching_options(False)
        return task

    def _check(self, given: dict[str, Any]) -> None:
        """Check options as far as they are known before the run."""
        known = self.component_spec.inputs
        if unknown := [name for name in given if name not in known]:
            hints = [f"{name}: {did_you_mean(name, known) or 'known are ' + ', '.join(known)}" for name in unknown]
            raise UsageError(f"{self.__name__}: unknown argument{'s' if len(hints) > 1 else ''}", details=hints)
        options = {name: value for name, value in given.items() if name in self._option_names()}
        defaults = self.interface.options()
        if nothing := [
            name for name, value in options.items() if value is None and getattr(defaults, name) is not None
        ]:
            raise UsageError(f"{self.__name__}: {', '.join(nothing)} cannot be None on Kubeflow", hint="leave it out")
        if not any(_comes_with_the_run(value) for value in options.values()):
            option_forms.from_mapping(self.interface.options, options, self.__name__)

    def _typed(self, name: str, value: Any) -> Any:
        """Return a value as KFP wants it: it takes no integer where a parameter is a number with decimals."""
        is_number = self.component_spec.inputs[name].type == "Float" and type(value) is int
        return float(value) if is_number else list(value) if isinstance(value, tuple) else value

    def _option_names(self) -> list[str]:
        taken = self._artifacts.keys() | self.interface.parameters
        return [field.name for field in attrs.fields(self.interface.options) if field.name not in taken]

    def _make_function(self, name: str) -> Callable[..., dsl.ContainerSpec]:
        """Make the function that `dsl.container_component` takes."""

        def container(*placeholders: object) -> dsl.ContainerSpec:
            return dsl.ContainerSpec(image=self.image, command=list(ENTRYPOINT), args=self._arguments())

        container.__name__ = name
        container.__doc__ = self._docstring()
        container.__signature__ = inspect.Signature(list(self._parameters()))  # type: ignore[attr-defined]
        return container

    def _parameters(self) -> Iterator[inspect.Parameter]:
        for key, title in self._artifacts.items():
            yield _keyword(key, dsl.Input[_KINDS.get(title, dsl.Artifact)])
        for key, title in self.interface.outputs.items():
            yield _keyword(key, dsl.Output[_KINDS.get(title, dsl.Artifact)])
        for key, parameter in self.interface.parameters.items():
            yield _keyword(key, str, inspect.Parameter.empty if parameter.default is None else parameter.default)
        types, defaults = field_types(self.interface.options), self.interface.options()
        for key in self._option_names():
            default = getattr(defaults, key)
            if isinstance(default, tuple):
                yield _keyword(key, list, list(default))
            else:  # None: KFP leaves it out, and the step takes its own default
                kind, optional = types[key]
                # KFP's local runner stops at an integer that is not given.
                yield _keyword(key, float if optional and kind is int else kind, default)

    def _arguments(self) -> list[str]:
        """Return what the entrypoint is told: in TFX's terms what KFP's types do not say."""
        parameters = {key: {"parameterType": "STRING"} for key in ("options", *self.interface.parameters)}
        artifacts = {key: {"artifactType": _type(title)} for key, title in self._artifacts.items()}
        outputs = {key: _type(title) for key, title in self.interface.outputs.items()}
        return [
            *(CLASS_FLAG, self.interface.executor),
            *(INPUT_FLAG, dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
            *(TYPES_FLAG, _compact({"artifacts": artifacts, "parameters": parameters})),
            *(OUTPUTS_FLAG, _compact(outputs)),
            *(OPTIONS_FLAG, _compact(self._option_names())),
            *(RUN_FLAG, dsl.PIPELINE_JOB_ID_PLACEHOLDER),
            *(SOURCES_FLAG, source_digest(self.interface.module)),
        ]

    def _docstring(self) -> str:
        helps = {key: parameter.help for key, parameter in self.interface.parameters.items()}
        fields = attrs.fields_dict(self.interface.options)
        helps |= {key: fields[key].metadata["help"] for key in self._option_names()}
        lines = [f"    {key}: {' '.join(text.split())}" for key, text in helps.items()]
        return "\n".join([self.interface.summary, "", "Args:", *lines])


def _keyword(name: str, kind: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _type(title: str) -> dict[str, str]:
    return {"schemaTitle": title, "schemaVersion": _VERSION}


def _comes_with_the_run(value: Any) -> bool:
    return isinstance(value, pipeline_channel.PipelineChannel) or "{{" in str(value)


def _compact(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))
