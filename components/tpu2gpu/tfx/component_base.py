"""The frame of a component: one class says which function does the work and what goes in and out; the rest follows.

    class Freezer(StepComponent):
        FUNCTION = freeze_model
        OPTIONS = FreezeOptions
        INPUTS = {"source_model": Model}
        OUTPUTS = {"model": Model}

What Kubeflow's own components are made of as well stands apart, where TFX is not known: `INTERFACE = FREEZER` says the
last three. TFX's specification and its executor are made of these. TFX finds an executor by the path of its class, so
each one stands in its component's module, here as `FreezerExecutor`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec, ExecutorClassSpec
from tfx.types.artifact import Artifact
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tpu2gpu import options as option_forms
from tpu2gpu.interface import StepInterface
from tpu2gpu.sources.digest import named_modules, source_digest
from tpu2gpu.storage.publishing import title_of
from tpu2gpu.tfx.artifacts import artifact_classes, model_source, model_target, write_metrics
from tpu2gpu.tfx.step import Step, figures, log_progress, words


class StepComponent(BaseComponent):
    """A component that runs one function.

    Former results are served again only while its sources are the same, and those that its options name: their digest
    is one of its parameters.

    Attributes:
        FUNCTION: Takes source, target and options, and `force`, `run_name` and `progress` by name; returns the result.
        OPTIONS: The class of its options.
        INPUTS: Artifact types by key; the source is `source_model`.
        OPTIONAL_INPUTS: Those that need not be connected.
        OUTPUTS: Artifact types by key; the target is in `model`, and `metrics` get the result's figures.
        PARAMETERS: Further parameters with their types.
        INTERFACE: Says the last five, in words that are not TFX's.

    Args:
        options: The options; their defaults when not given.
        given: Channels and parameters by key.
    """

    FUNCTION: ClassVar[Callable[..., Any]]
    OPTIONS: ClassVar[type]
    INPUTS: ClassVar[Mapping[str, type[Artifact]]] = {}
    OPTIONAL_INPUTS: ClassVar[Mapping[str, type[Artifact]]] = {}
    OUTPUTS: ClassVar[Mapping[str, type[Artifact]]] = {}
    PARAMETERS: ClassVar[Mapping[str, type]] = {}
    INTERFACE: ClassVar[StepInterface | None] = None

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if said := vars(cls).get("INTERFACE"):  # its subclasses may say otherwise
            cls.OPTIONS = said.options
            cls.INPUTS, cls.OPTIONAL_INPUTS = artifact_classes(said.inputs), artifact_classes(said.optional_inputs)
            cls.OUTPUTS = artifact_classes(said.outputs)
            cls.PARAMETERS = dict.fromkeys(said.parameters, str)
        if not hasattr(cls, "OPTIONS"):  # another frame
            return
        parameters = {"options": str, "source_sha256": str, **cls.PARAMETERS}
        contents = {
            "PARAMETERS": {key: ExecutionParameter(type=kind) for key, kind in parameters.items()},
            "INPUTS": {
                **{key: ChannelParameter(type=kind) for key, kind in cls.INPUTS.items()},
                **{key: ChannelParameter(type=kind, optional=True) for key, kind in cls.OPTIONAL_INPUTS.items()},
            },
            "OUTPUTS": {key: ChannelParameter(type=kind) for key, kind in cls.OUTPUTS.items()},
        }
        cls.SPEC_CLASS = _make_class(cls, "Spec", ComponentSpec, contents)
        on_beam = issubclass(cls, BaseBeamComponent)
        executor = _make_class(cls, "Executor", _BeamExecutor if on_beam else _Executor, {"component": cls})
        cls.EXECUTOR_SPEC = (BeamExecutorSpec if on_beam else ExecutorClassSpec)(executor)
        setattr(sys.modules[cls.__module__], executor.__name__, executor)

    def __init__(self, options: Any = None, **given: Any) -> None:
        options = options or self.OPTIONS()
        spec = self.SPEC_CLASS(
            options=option_forms.to_json(options),
            source_sha256=source_digest(type(self).__module__, *named_modules(options)),
            **{key: value for key, value in given.items() if value is not None},
            **{key: Channel(type=kind) for key, kind in self.OUTPUTS.items()},
        )
        super().__init__(spec=spec)

    @classmethod
    def run(cls, step: Step) -> None:
        """Run the function on the step's artifacts; a component whose function is another one overrides this.

        Args:
            step: What TFX hands to the executor.

        Raises:
            Tpu2GpuError: The step says why it cannot.
        """
        result = cls.FUNCTION(
            cls.source(step),
            model_target(step.output("model")),
            cls.options(step),
            force=True,
            run_name=step.run_name,
            progress=log_progress,
        )
        if "metrics" in cls.OUTPUTS:
            title = step.heading(title_of(model_target(step.output("model"))))
            write_metrics(step.output("metrics"), figures(result), words(result), title=title)

    @classmethod
    def source(cls, step: Step) -> Any:
        """Return the path of the function's source."""
        return model_source(step.input("source_model"))

    @classmethod
    def options(cls, step: Step) -> Any:
        """Return the function's options."""
        return step.options(cls.OPTIONS)


class BeamStepComponent(StepComponent, BaseBeamComponent):
    """A component whose function can run on Beam: where the pipeline's Beam arguments name a runner."""


class _Do:
    component: ClassVar[type[StepComponent]]

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: Mapping[str, Sequence[Any]],
        output_dict: Mapping[str, Sequence[Any]],
        exec_properties: Mapping[str, Any],
    ) -> None:
        """Run the step; an error of the tree says why it cannot."""
        self.component.run(Step(self, input_dict, output_dict, exec_properties))


class _Executor(_Do, BaseExecutor):
    """Runs a component."""


class _BeamExecutor(_Do, BaseBeamExecutor):
    """Runs a component that knows the pipeline's Beam arguments."""


def _make_class(component: type, suffix: str, base: type, contents: Mapping[str, Any]) -> Any:
    name = component.__name__ + suffix
    return type(name, (base,), {"__module__": component.__module__, "__doc__": base.__doc__, **contents})
