"""Options of an optimization, and the options of each step that follow from them."""

from __future__ import annotations

from typing import Any

import attrs

from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import UsageError
from tpu2gpu.freezer.options import FreezeOptions
from tpu2gpu.latency_evaluator.options import EvaluateOptions
from tpu2gpu.optimizer.candidates import INT8, PRECISIONS, Candidate
from tpu2gpu.options import flag, option, option_of, taken_from
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.running.examples.reading import EXAMPLE_FIELDS
from tpu2gpu.trt_converter.backend_registry import BACKENDS
from tpu2gpu.trt_converter.backends.base import back_end
from tpu2gpu.trt_converter.options import ConvertOptions

_OF_INT8 = "int8_"
_SHARE_OF_CAST = 0.5  # of the budget of outputs; the conversion may need the rest


@attrs.frozen(kw_only=True)
class OptimizeOptions(EvaluateOptions):
    """The candidates to try, what the steps are told, the measurements and all budgets of an evaluation.

    Attributes:
        precision: The precisions to try.
        backend: The back ends to try.
    """

    precision: tuple[str, ...] = option(
        (), "try this precision (default: all; int8 where there are examples)", choices=PRECISIONS
    )
    backend: tuple[str, ...] = option(
        (),
        "try this back end (default: ONNX Runtime, and those whose engines this machine's GPU runs)",
        choices=tuple(BACKENDS),
    )
    graph: str = option_of(ImportOptions, "graph")
    checkpoint_name: str = option_of(ImportOptions, "checkpoint_name")
    step: int | None = option_of(ImportOptions, "step")
    tag: str = option_of(ImportOptions, "tag")
    input: tuple[str, ...] = option_of(ImportOptions, "input")
    output: tuple[str, ...] = option_of(ImportOptions, "output")
    fix: tuple[str, ...] = option_of(ImportOptions, "fix")
    batch: int | None = option_of(ImportOptions, "batch")
    rename: tuple[str, ...] = option_of(ImportOptions, "rename")
    drop: tuple[str, ...] = option_of(ImportOptions, "drop")
    extra_pass: tuple[str, ...] = option_of(ImportOptions, "extra_pass")
    custom_objects: tuple[str, ...] = option_of(ImportOptions, "custom_objects")
    use_ema: bool = option_of(ImportOptions, "use_ema")
    layout: str = option_of(ConvertOptions, "layout")
    triton_backend: str = option_of(ConvertOptions, "triton_backend")
    name: str = option_of(ConvertOptions, "name")
    model_version: int = option_of(ConvertOptions, "model_version")
    profile: tuple[str, ...] = option_of(ConvertOptions, "profile")
    compute_capability: tuple[str, ...] = option_of(ConvertOptions, "compute_capability")
    hardware_compatibility: str = option_of(ConvertOptions, "hardware_compatibility")
    tolerance: float | None = option_of(ConvertOptions, "tolerance")
    int8_examples: int = option_of(ConvertOptions, "int8_examples")
    int8_per_channel: bool = option_of(ConvertOptions, "int8_per_channel")
    int8_exclude: tuple[str, ...] = option_of(ConvertOptions, "int8_exclude")
    int8_method: str = option_of(ConvertOptions, "int8_method")
    memory_limit_mib: int | None = option_of(ConvertOptions, "memory_limit_mib")

    def of_import(self) -> ImportOptions:
        """Return the options of the import."""
        return ImportOptions(trust=self.trust, **taken_from(ImportOptions, self))

    def of_cast(self, precision: str, examples: tuple[str, ...]) -> CastOptions:
        """Return the options of a cast; a budget of outputs is one of the cast too, measured on the examples."""
        if self.max_relative_error is None or not examples:
            return CastOptions(to=precision, trust=self.trust)
        budget = self.max_relative_error * _SHARE_OF_CAST
        return CastOptions(
            to=precision, trust=self.trust, examples=examples, max_relative_error=budget, **self._of_examples()
        )

    def of_freeze(self) -> FreezeOptions:
        """Return the options of a freeze; a graph that would be too large keeps its largest weights as variables."""
        return FreezeOptions(trust=self.trust, split_weights=True)

    def of_convert(self, candidate: Candidate, examples: tuple[str, ...]) -> ConvertOptions:
        """Return the options of a conversion, without those that mean nothing for the candidate."""
        told = {name: value for name, value in taken_from(ConvertOptions, self).items() if heeds(candidate, name)}
        is_int8 = candidate.precision == INT8
        return ConvertOptions(
            backend=candidate.backend,
            int8=is_int8,
            examples=examples if is_int8 else (),
            **(self._of_examples() if is_int8 else {}),
            signature=self.signature,
            trust=self.trust,
            **told,
        )

    def _of_examples(self) -> dict[str, Any]:
        """Return how examples are read."""
        return {name: getattr(self, name) for name in EXAMPLE_FIELDS}

    def of_evaluate(self) -> EvaluateOptions:
        """Return the options of the evaluation."""
        return EvaluateOptions(**{field.name: getattr(self, field.name) for field in attrs.fields(EvaluateOptions)})

    def check_heeded(self, candidates: tuple[Candidate, ...]) -> None:
        """Check that every option of a conversion that was given means something for a candidate.

        Raises:
            UsageError: Some do not; all are listed.
        """
        told, defaults = taken_from(ConvertOptions, self), attrs.fields_dict(ConvertOptions)
        idle = [
            flag(name)
            for name, value in told.items()
            if value != defaults[name].default and not any(heeds(candidate, name) for candidate in candidates)
        ]
        if idle:
            tried = ", ".join(candidate.name for candidate in candidates)
            raise UsageError(
                f"options that mean nothing for what is tried, which is {tried}",
                details=idle,
                hint=f"leave them out, or choose other values for {flag('precision')} and {flag('backend')}",
            )


def heeds(candidate: Candidate, name: str) -> bool:
    """Tell whether an option of a conversion means something for a candidate."""
    if name.startswith(_OF_INT8) and candidate.precision != INT8:
        return False
    takers = [each for each in BACKENDS if name in back_end(each).heeds]
    return not takers or candidate.backend in takers
