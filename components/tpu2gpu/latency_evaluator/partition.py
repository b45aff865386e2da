"""A model in parts: what share of the compute the core has, and what flows over the cut."""

from __future__ import annotations

import attrs

from tpu2gpu.running.runner import shape_text
from tpu2gpu.running.serving_plan import CORE, Part, Plan


@attrs.frozen(kw_only=True)
class PartFigures:
    """One part of a model.

    Attributes:
        name: `pre`, `core` or `post`.
        runs: What runs it: a TensorRT engine, ONNX Runtime or TensorFlow.
        operations: How many operations it has.
        flops_per_example: Its floating-point operations.
        because: Why it is no part of the core; empty for the core itself.
    """

    name: str
    runs: str
    operations: int
    flops_per_example: int
    because: str = ""


@attrs.frozen(kw_only=True)
class FlowFigures:
    """A tensor that flows from one part to others.

    Attributes:
        tensor: Its name in the source's graph.
        form: Its type and shape.
        bytes_per_example: Its size.
        producer: The part that gives it.
        consumers: The parts that take it.
    """

    tensor: str
    form: str
    bytes_per_example: int
    producer: str
    consumers: tuple[str, ...]


@attrs.frozen(kw_only=True)
class PartitionFigures:
    """A model in parts.

    Attributes:
        parts: In the order in which they run.
        flows: What flows between them.
    """

    parts: tuple[PartFigures, ...]
    flows: tuple[FlowFigures, ...]

    @property
    def core_share(self) -> float:
        """Share of the floating-point operations in the core, 0 to 1."""
        total = sum(part.flops_per_example for part in self.parts)
        core = sum(part.flops_per_example for part in self.parts if part.name == CORE)
        return core / total if total else 0.0

    @property
    def bytes_per_example(self) -> int:
        """Bytes that flow over the cut for each example."""
        return sum(flow.bytes_per_example for flow in self.flows)


def partition_of(plan: Plan) -> PartitionFigures | None:
    """Return the parts of a serving folder's plan; None where the model is in one."""
    if len(plan.parts) < 2:
        return None
    forms = {spec.name: f"{spec.dtype} {shape_text(spec.shape)}" for part in plan.parts for spec in part.outputs}
    return PartitionFigures(
        parts=tuple(
            PartFigures(
                name=part.name,
                runs=_runs(part),
                operations=sum(part.ops.values()),
                flops_per_example=part.flops_per_example or 0,
                because="" if part.name == CORE else "; ".join(part.unsupported) or part.in_tensorflow_because,
            )
            for part in plan.parts
        ),
        flows=tuple(
            FlowFigures(
                tensor=flow.tensor,
                form=forms.get(flow.name, ""),
                bytes_per_example=flow.bytes_per_example,
                producer=flow.producer,
                consumers=flow.consumers,
            )
            for flow in plan.boundary_tensors
        ),
    )


def _runs(part: Part) -> str:
    if part.engine.file:
        return "a TensorRT engine where a GPU takes it, ONNX Runtime elsewhere"
    return "TensorFlow" if part.saved_model else "ONNX Runtime"
