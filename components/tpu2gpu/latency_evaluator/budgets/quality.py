"""The figures that gate, and the outputs that they come from; what differs in the form of two models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs

from tpu2gpu.running.comparison.parity import OutputParity
from tpu2gpu.running.runner import TensorSpec


@attrs.frozen
class Worst:
    """A figure that gates, and the output that it comes from."""

    value: float
    output: str


def largest(parity: Mapping[str, OutputParity], figure: str) -> Worst | None:
    """The largest of a figure over the outputs that have it."""
    return max(_all(parity, figure), key=lambda worst: worst.value, default=None)


def smallest(parity: Mapping[str, OutputParity], figure: str) -> Worst | None:
    """The smallest of a figure over the outputs that have it."""
    return min(_all(parity, figure), key=lambda worst: worst.value, default=None)


def _all(parity: Mapping[str, OutputParity], figure: str) -> Iterator[Worst]:
    for name, one in parity.items():
        value = getattr(one, figure)
        if value is not None:
            yield Worst(value, name)


def differing_specs(
    kind: str, wanted: Sequence[TensorSpec], found: Sequence[TensorSpec], *, names_only: bool = False
) -> list[str]:
    """What differs between the inputs (or outputs) of two models: names, types, shapes where both know them.

    Args:
        kind: `input` or `output`.
        wanted: The baseline's.
        found: The candidate's.
        names_only: Leave types and shapes to a comparison of the arrays themselves.
    """
    there = {spec.name: spec for spec in found}
    names = {spec.name for spec in wanted}
    differences = [f"{kind} {spec.name}: missing" for spec in wanted if spec.name not in there]
    differences += [f"{kind} {name}: the baseline has none such" for name in there if name not in names]
    for spec in wanted:
        other = there.get(spec.name)
        if other is None or names_only:
            continue
        if other.dtype != spec.dtype:
            differences.append(f"{kind} {spec.name}: {other.dtype}, the baseline has {spec.dtype}")
        if not _shapes_fit(spec.shape, other.shape):
            differences.append(f"{kind} {spec.name}: shape {_text(other.shape)}, the baseline has {_text(spec.shape)}")
    return differences


def _shapes_fit(left: tuple[int | None, ...] | None, right: tuple[int | None, ...] | None) -> bool:
    if left is None or right is None:
        return True
    return len(left) == len(right) and all(
        one is None or other is None or one == other for one, other in zip(left, right, strict=True)
    )


def _text(shape: tuple[int | None, ...] | None) -> str:
    return "[...]" if shape is None else "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
