"""Quantisation that networks emulate in floating point: ranges, widths and roundings, at the levels and between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.conformance.case import Array, Case, Const, combinations, ramp

RANGES = ((-6.0, 6.0), (0.0, 6.0), (-1.2, 6.3), (-3.3, 1.1), (0.5, 2.5), (-4.0, -1.0), (-1.0, 1.0), (-127.0, 127.0))
BITS = (4, 8, 16)


def cases() -> Iterator[Case]:
    """Every operation with ranges on both sides of zero and beyond it, whole tensors and channels, weights too."""
    for low, high in RANGES:
        values = _around_levels(low, high)
        for bits in BITS:
            label = f"{low:g} to {high:g}"
            how: dict[str, Any] = {"num_bits": [bits], "narrow_range": [False, True]}
            args = {label: {"inputs": values}}
            yield from combinations("FakeQuantWithMinMaxArgs", args, min=[low], max=[high], **how)
            ends = {"min": Const(np.float32(low)), "max": Const(np.float32(high))}
            yield from combinations("FakeQuantWithMinMaxVars", {label: {"inputs": values, **ends}}, **how)
            signs = {"signed_input": [True, False], "range_given": [True]}
            ends = {"input_min": Const(np.float32(low)), "input_max": Const(np.float32(high))}
            trip = {label: {"input": values, **ends}}
            for op in ("QuantizeAndDequantizeV2", "QuantizeAndDequantizeV4"):
                rounding = ["HALF_TO_EVEN", "HALF_UP"]
                yield from combinations(op, trip, dynamic=(False,), round_mode=rounding, **signs, **how)
            third = {label: {"input": values, **ends, "num_bits": Const(np.int32(bits))}}
            yield from combinations(
                "QuantizeAndDequantizeV3", third, dynamic=(False,), **signs, narrow_range=[False, True]
            )
    yield from _channels()
    yield from _own_ranges()


def _channels() -> Iterator[Case]:
    low, high = np.array([-6, 0, -1.2, 0], np.float32), np.array([6, 6, 6.3, 0], np.float32)
    how: dict[str, Any] = {"num_bits": [4, 8, 16], "narrow_range": [False, True]}
    for shape in ((4,), (5, 4), (2, 3, 3, 4)):
        inputs = {f"{len(shape)}-D": {"inputs": ramp("float32", *shape), "min": Const(low), "max": Const(high)}}
        yield from combinations("FakeQuantWithMinMaxVarsPerChannel", inputs, **how)
    ends = {"input_min": Const(low[:3]), "input_max": Const(high[:3])}
    for axis, shape in ((0, (3, 4)), (1, (2, 3, 4)), (2, (4, 2, 3))):
        given = {"input": ramp("float32", *shape), **ends}
        signs = {"signed_input": [True, False], "range_given": [True], "axis": [axis]}
        for op in ("QuantizeAndDequantizeV2", "QuantizeAndDequantizeV4"):
            yield from combinations(op, {f"{len(shape)}-D": given}, **signs, **how)
        for bits in how["num_bits"]:
            third = {f"{len(shape)}-D, {bits} bits": {**given, "num_bits": Const(np.int32(bits))}}
            yield from combinations("QuantizeAndDequantizeV3", third, **signs, narrow_range=[False, True])


def _own_ranges() -> Iterator[Case]:
    """Ranges that follow from what is given, or are no constants, and other types."""
    ends = {"input_min": Const(np.float64(-1)), "input_max": Const(np.float64(2))}
    for given in (False, True):
        inputs = {"float64": {"input": ramp("float64", 3, 7), **ends}}
        yield from combinations("QuantizeAndDequantizeV2", inputs, dynamic=(False,), num_bits=[8], range_given=[given])
    fed = {"range is fed": {"inputs": ramp("float32", 3, 7), "min": np.float32(-1), "max": np.float32(2)}}
    yield from combinations("FakeQuantWithMinMaxVars", fed, dynamic=(False,), num_bits=[8])
    weights = {"input": Const(ramp("float32", 3, 7)), "input_min": np.float32(0), "input_max": np.float32(0)}
    how: dict[str, Any] = {"num_bits": [4, 8], "range_given": [False], "narrow_range": [False, True], "axis": [-1, 0]}
    yield from combinations("QuantizeAndDequantizeV2", {"weights": weights}, dynamic=(False,), **how)


def _around_levels(low: float, high: float) -> Array:
    """Return levels of 8 bits, the halves between them, and their neighbours in float32; beyond the range, too."""
    step = np.float32((high - low) / 255)
    halves = np.arange(-20, 300, dtype=np.float32) * (step / 2) + np.float32(low)
    odd = np.array([0.0, -0.0, low, high, 1e30, -1e30, np.inf, -np.inf], np.float32)
    near = [np.nextafter(halves, np.float32(side)) for side in (np.inf, -np.inf)]
    return np.concatenate([halves, *near, odd, ramp("float32", 50, scale=3.0)]).astype(np.float32)
