"""Optimisation profiles: for each input the smallest, the usual and the largest shape that an engine takes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tpu2gpu.errors import UsageError
from tpu2gpu.options import did_you_mean

if TYPE_CHECKING:
    from tpu2gpu.running.runners import TensorSpec

DEFAULT_BATCHES = (1, 8, 32)
_BOUNDS = ("min", "opt", "max")
_FORM = re.compile(r"(?P<name>.+)=(?P<min>[\dx]+):(?P<opt>[\dx]+):(?P<max>[\dx]+)")

Bounds = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""The smallest, the usual and the largest shape."""


def parse_profiles(texts: Sequence[str]) -> dict[str, Bounds]:
    """Reads `--profile` values.

    Args:
        texts: `INPUT=MIN:OPT:MAX`; each bound is a batch size (`8`) or a whole shape (`8x224x224x3`).

    Returns:
        For each input its bounds; of one number where only the batch was given.

    Raises:
        UsageError: A text has another form, names an input again, or its bounds are not in order; all are listed.
    """
    profiles: dict[str, Bounds] = {}
    wrong = []
    for text in texts:
        match = _FORM.fullmatch(text)
        if match is None:
            wrong.append(f"{text}: not of the form INPUT=MIN:OPT:MAX")
            continue
        if match["name"] in profiles:
            wrong.append(f"{text}: a second profile for this input, and an engine here has one")
        try:
            smallest, usual, largest = (tuple(int(size) for size in match[bound].split("x")) for bound in _BOUNDS)
        except ValueError:
            wrong.append(f"{text}: a bound is a number, or numbers with x between them")
            continue
        profiles[match["name"]] = (smallest, usual, largest)
        if not len(smallest) == len(usual) == len(largest):
            wrong.append(f"{text}: the bounds have different numbers of dimensions")
        elif not all(0 < low <= middle <= high for low, middle, high in zip(smallest, usual, largest, strict=True)):
            wrong.append(f"{text}: wanted 0 < MIN <= OPT <= MAX")
    if wrong:
        raise UsageError("--profile", details=wrong, way_out="write --profile images=1:8:32 or ids=1x16:8x64:32x128")
    return profiles


def fit_profiles(inputs: Sequence[TensorSpec], profiles: Mapping[str, Bounds]) -> dict[str, Bounds]:
    """Completes profiles for a model's inputs.

    Args:
        inputs: The model's inputs.
        profiles: What `parse_profiles` read.

    Returns:
        Whole shapes for every input, in the order of the inputs; batches of 1, 8 and 32 where none is given.

    Raises:
        UsageError: A profile contradicts the model, or a dimension beside the batch is unknown; all are listed.
    """
    known = [spec.name for spec in inputs]
    wrong = [
        f"{name}: the model has no such input; {did_you_mean(name, known) or 'it has ' + ', '.join(known)}"
        for name in profiles
        if name not in known
    ]
    fitted: dict[str, Bounds] = {}
    for spec in inputs:
        bounds = profiles.get(spec.name) or _default(spec)
        smallest, usual, largest = (_whole(spec, bound) for bound in bounds)
        if smallest is not None and usual is not None and largest is not None:
            fitted[spec.name] = (smallest, usual, largest)
        elif spec.name in profiles:
            wrong.append(f"{spec}: the profile has {', '.join('x'.join(map(str, bound)) for bound in bounds)}")
        else:
            wrong.append(f"{spec}: a dimension beside the batch is unknown")
    if wrong:
        raise UsageError(
            "the engine's profile does not fit the model's inputs",
            details=wrong,
            way_out="give --profile INPUT=MIN:OPT:MAX with whole shapes, as in ids=1x16:8x64:32x128",
        )
    return fitted


def _default(spec: TensorSpec) -> Bounds:
    """The usual batches where the batch is free, and what is fixed elsewhere."""
    if not spec.shape:
        return ((), (), ())
    smallest, usual, largest = DEFAULT_BATCHES if spec.shape[0] is None else (spec.shape[0],) * 3
    return ((smallest,), (usual,), (largest,))


def _whole(spec: TensorSpec, bound: tuple[int, ...]) -> tuple[int, ...] | None:
    """A bound as a whole shape; None where it does not fit."""
    if len(bound) == 1:
        bound = (*bound, *(size or 0 for size in spec.shape[1:]))
    fits = len(bound) == len(spec.shape) and all(
        found > 0 and wanted in (None, found) for found, wanted in zip(bound, spec.shape, strict=True)
    )
    return bound if fits else None
