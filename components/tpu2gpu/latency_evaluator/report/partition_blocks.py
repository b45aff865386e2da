"""What the report says of a model in parts."""

from __future__ import annotations

from tpu2gpu.latency_evaluator.partition import PartitionFigures
from tpu2gpu.reporting.numbers import NONE, percent, significant, size
from tpu2gpu.reporting.report import Row, Table


def partition_tables(partition: PartitionFigures, of: str) -> list[Table]:
    """Make the tables of a model's parts and of what flows between them.

    Args:
        partition: The parts.
        of: What a heading says of whose they are; nothing where there is one candidate.
    """
    total = sum(part.flops_per_example for part in partition.parts) or 1
    parts = [
        Row(
            [
                part.name,
                part.runs,
                str(part.operations),
                f"{significant(part.flops_per_example / 1e6)} million",
                percent(part.flops_per_example / total),
                part.because or NONE,
            ]
        )
        for part in partition.parts
    ]
    flows = [
        Row(
            [
                f"{flow.producer} → {', '.join(flow.consumers)}",
                flow.tensor,
                flow.form,
                size(flow.bytes_per_example),
            ]
        )
        for flow in partition.flows
    ]
    share = (
        f"{percent(partition.core_share)} of the floating-point operations are in the core, which an accelerator runs."
    )
    return [
        Table(
            f"Parts{of}",
            ["part", "run by", "operations", "FLOPs per example", "share", "beside the core because of"],
            parts,
            share,
            numeric=False,
        ),
        Table(
            f"What flows between the parts{of}",
            ["from → to", "tensor", "form", "per example"],
            flows,
            f"{size(partition.bytes_per_example)} for each example in all.",
            numeric=False,
        ),
    ]
