"""The PrecisionCaster component."""

from __future__ import annotations

import attrs
from tfx.types.channel import BaseChannel

from tpu2gpu.precision_caster.casting import cast_model
from tpu2gpu.precision_caster.interface import PRECISION_CASTER
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.running.examples.reading import ExampleOptions
from tpu2gpu.tfx.artifacts import examples_folder
from tpu2gpu.tfx.component_base import BeamStepComponent
from tpu2gpu.tfx.step import Step


class PrecisionCaster(BeamStepComponent):
    """Casts a model, weights and graph together, to another precision; its signatures stay as they are.

    Weights are cast on Beam where the pipeline's `beam_pipeline_args` name a `--runner`, else in the step's process.

    Outputs: `model` (the cast SavedModel), `metrics` (sizes, largest error, the outputs' measured error).

    Args:
        model: The SavedModel to cast.
        options: The precision, what keeps its own, and the budget of the outputs' error.
        examples: Real examples to measure the outputs on; made-up inputs when not connected.
        split: The examples' split that is used.
    """

    FUNCTION = cast_model
    INTERFACE = PRECISION_CASTER

    def __init__(
        self,
        model: BaseChannel,
        options: CastOptions | None = None,
        examples: BaseChannel | None = None,
        split: str = "eval",
    ) -> None:
        super().__init__(options, source_model=model, examples=examples, split=split)

    @classmethod
    def options(cls, step: Step) -> CastOptions:
        """Return the options with the examples that are connected."""
        options, examples = step.options(CastOptions), step.input("examples")
        if examples is None:
            return options
        if not options.measure or options.precision == "float32":
            return attrs.evolve(options, **attrs.asdict(ExampleOptions()))  # nothing is measured
        return attrs.evolve(options, examples=(str(examples_folder(examples, step.properties["split"])),))
