"""The interface of a step: what both kinds of component are made of, TFX's and Kubeflow's own; it knows neither.

    FREEZER = StepInterface(
        component="tpu2gpu.freezer.component.Freezer",
        summary="Turn a model's variables into constants of its graph.",
        options=FreezeOptions,
        inputs={"source_model": MODEL},
        outputs={"model": MODEL},
    )

Artifacts are named by the title that their type has in a compiled pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

MODEL = "tfx.Model"
EXAMPLES = "tfx.Examples"
CHECKPOINT = "tpu2gpu.Checkpoint"
METRICS = "system.Metrics"
REPORT = "system.HTML"
MODEL_BLESSING = "tfx.ModelBlessing"
INFRA_BLESSING = "tfx.InfraBlessing"
PUSHED_MODEL = "tfx.PushedModel"


@attrs.frozen
class TextParameter:
    """A text that a step is told beside its options.

    Attributes:
        help: One line on what it says.
        default: Where it is not given; None where it must be.
    """

    help: str
    default: str | None = None


@attrs.frozen(kw_only=True)
class StepInterface:
    """What goes into a step and what comes out.

    Attributes:
        component: Path of the TFX component's class; its executor runs the step everywhere.
        summary: One sentence on what it does.
        options: The class of its options.
        inputs: Titles of artifact types by key.
        optional_inputs: Those that need not be connected.
        outputs: Titles of artifact types by key.
        parameters: Further parameters by key.
    """

    component: str
    summary: str
    options: type
    inputs: Mapping[str, str] = {}
    optional_inputs: Mapping[str, str] = {}
    outputs: Mapping[str, str] = {}
    parameters: Mapping[str, TextParameter] = {}

    @property
    def module(self) -> str:
        """The module of the TFX component."""
        return self.component.rpartition(".")[0]

    @property
    def executor(self) -> str:
        """Path of the executor's class."""
        return f"{self.component}Executor"
