"""The inputs and outputs of two models, by what their signatures say."""

from __future__ import annotations

from collections.abc import Sequence

from tpu2gpu.running.runner import TensorSpec, shape_text


def differing_specs(kind: str, wanted: Sequence[TensorSpec], found: Sequence[TensorSpec]) -> list[str]:
    """List what differs between the inputs (or outputs) of two models: names, types, shapes where both know them.

    Args:
        kind: `input` or `output`.
        wanted: The reference's.
        found: The candidate's.
    """
    there = {spec.name: spec for spec in found}
    names = {spec.name for spec in wanted}
    differences = [f"{kind} {spec.name}: missing" for spec in wanted if spec.name not in there]
    differences += [f"{kind} {name}: the reference has none such" for name in there if name not in names]
    for spec in wanted:
        other = there.get(spec.name)
        if other is None:
            continue
        if other.dtype != spec.dtype:
            differences.append(f"{kind} {spec.name}: {other.dtype}, the reference has {spec.dtype}")
        if spec.ranked and other.ranked and not _shapes_fit(spec.shape, other.shape):
            differences.append(
                f"{kind} {spec.name}: shape {shape_text(other.shape)}, the reference has {shape_text(spec.shape)}"
            )
    return differences


def _shapes_fit(left: tuple[int | None, ...], right: tuple[int | None, ...]) -> bool:
    return len(left) == len(right) and all(
        one is None or other is None or one == other for one, other in zip(left, right, strict=True)
    )
