"""How right a model is: on the labels, and in what its outputs hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from tpu2gpu.errors import ExamplesError
from tpu2gpu.running.parity import OutputParity, is_class_scores
from tpu2gpu.running.runners import TensorSpec

Array = npt.NDArray[Any]


def scores_output(outputs: Mapping[str, Array], count: int) -> str | None:
    """The output that holds a classifier's scores: the first that is floating point, [count, classes]."""
    return next((name for name, array in outputs.items() if is_class_scores(array) and len(array) == count), None)


def check_labels(outputs: Mapping[str, Array], labels: Array | None) -> None:
    """Checks that the labels are class numbers of the model.

    Raises:
        ExamplesError: They are not.
    """
    if labels is None or (name := scores_output(outputs, len(labels))) is None:
        return
    classes = outputs[name].shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise ExamplesError(
            f"the labels go from {labels.min()} to {labels.max()}, but output {name} has {classes} classes, from 0",
            way_out="--label names another feature",
        )


def accuracy(outputs: Mapping[str, Array], labels: Array | None) -> float | None:
    """Share of the examples whose largest score is at their label; None without labels or without scores."""
    if labels is None or (name := scores_output(outputs, len(labels))) is None:
        return None
    return float(np.mean(np.argmax(outputs[name].astype(np.float64), axis=1) == labels))


@attrs.frozen
class Worst:
    """A figure that gates, and the output that it comes from."""

    value: float
    output: str


def worst_error(parity: Mapping[str, OutputParity]) -> Worst | None:
    """The largest relative error of all outputs."""
    return max(
        (Worst(one.relative_error, name) for name, one in parity.items()), key=lambda worst: worst.value, default=None
    )


def worst_agreement(parity: Mapping[str, OutputParity]) -> Worst | None:
    """The smallest top-1 agreement of all outputs that have one."""
    found = (Worst(one.top1_agreement, name) for name, one in parity.items() if one.top1_agreement is not None)
    return min(found, key=lambda worst: worst.value, default=None)


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
