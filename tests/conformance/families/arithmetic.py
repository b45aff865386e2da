"""Operations of two numbers and more: arithmetic, comparison, bits, choice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.conformance.case import NUMBERS, Array, Case, Const, combinations, extremes, ramp

FLOATING = "Atan2 Div DivNoNan MulNoNan Pow RealDiv Xdivy Xlogy Xlog1py SquaredDifference"
ANY = (
    "Add AddV2 Sub Mul Maximum Minimum FloorDiv FloorMod TruncateDiv TruncateMod Mod Div Pow SquaredDifference "
    "Equal NotEqual Less LessEqual Greater GreaterEqual"
)
BITS = "BitwiseAnd BitwiseOr BitwiseXor LeftShift RightShift"
DIVISIONS = ("Div", "FloorDiv", "FloorMod", "TruncateDiv", "TruncateMod", "Mod")


def pairs(dtype: str) -> tuple[Array, Array]:
    """Return every pair of the type's extremes."""
    values = extremes(dtype)
    x, y = np.meshgrid(values, values)
    return x.ravel(), y.ravel()


def sound(op: str, x: Array, y: Array) -> tuple[Array, Array]:
    """Leave out what TensorFlow refuses: integers divided by zero, negative powers; and what C leaves undefined."""
    if x.dtype.kind == "f":
        with np.errstate(all="ignore"):  # quotients that are subnormal are zero to TensorFlow
            small = (x != 0) & (np.abs(x / y) < np.finfo(x.dtype).tiny)
        return (x[~small], y[~small]) if op.startswith("Floor") else (x, y)
    keep = np.ones(x.shape, bool)
    if op in DIVISIONS:
        keep &= y != 0
        if x.dtype.kind == "i":
            keep &= ~((x == np.iinfo(x.dtype).min) & (y == -1))
    if op == "Pow":
        keep &= (y <= 7) & (y >= 0)
    if op.endswith("Shift"):
        keep &= (y < np.iinfo(x.dtype).bits) & (y >= 0)
    return x[keep], y[keep]


def cases() -> Iterator[Case]:
    """Every operation on every type: all pairs of extremes, broadcast shapes, nothing at all."""
    for op in dict.fromkeys([*FLOATING.split(), *ANY.split(), *BITS.split()]):
        for dtype in NUMBERS:
            x, y = sound(op, *pairs(dtype))
            few = sound(op, ramp(dtype, 3, 1, 4) + np.array(0, dtype), np.ones((3, 1, 4), dtype) * np.array(3, dtype))[
                0
            ]
            inputs = {
                "pairs": {"x": x, "y": y},
                "broadcast": {"x": few.reshape(-1, 1), "y": np.array([1, 2, 3], dtype)},
                "empty": {"x": x[:0], "y": y[:0]},
                "scalar": {"x": x[:3], "y": np.array(2, dtype)},
            }
            if dtype not in ("float32", "int32", "int64"):
                del inputs["broadcast"], inputs["empty"], inputs["scalar"]
            yield from combinations(op, inputs)
    both = np.array([True, True, False, False]), np.array([True, False, True, False])
    yield from combinations(["LogicalAnd", "LogicalOr"], {"pairs": {"x": both[0], "y": both[1]}})
    yield from combinations(["Equal", "NotEqual"], {"bool": {"x": both[0], "y": both[1]}})
    for dtype in (*NUMBERS, "bool"):
        x = extremes(dtype)
        y = x[::-1].copy()
        choose = np.arange(len(x)) % 2 == 0
        yield from combinations("Select", {"same shape": {"condition": choose, "x": x, "y": y}})
        rows = {"condition": choose[:2], "x": np.stack([x, y]), "y": np.stack([y, x])}
        yield from combinations("Select", {"rows": rows, "scalar": {**rows, "condition": np.array(True)}})
        wide = {"condition": choose[:2].reshape(2, 1), "t": x, "e": y[:1]}
        none = {"condition": choose[:0], "t": x[:0], "e": y[:0]}
        yield from combinations("SelectV2", {"broadcast": wide, "empty": none})
        if dtype == "bool":
            continue
        yield from combinations("AddN", {"three": {"inputs": [x, y, x]}, "one": {"inputs": [x]}})
        middle = np.array(2, dtype)
        bounds = {"clip_value_min": np.array(0 if np.dtype(dtype).kind == "u" else -2, dtype), "clip_value_max": middle}
        yield from combinations("ClipByValue", {"extremes": {"t": x, **bounds}})
        for op in ("BiasAdd", "BiasAddV1"):
            shaped = {"value": ramp(dtype, 2, 3, 4), "bias": ramp(dtype, 4)}
            yield from combinations(op, {"3-D": shaped})
        yield from combinations(
            "BiasAdd",
            {
                "4-D": {"value": ramp(dtype, 2, 3, 4, 5), "bias": ramp(dtype, 3)},
                "as wide as deep": {"value": ramp(dtype, 2, 3, 4, 3), "bias": ramp(dtype, 3)},
                "constant": {"value": ramp(dtype, 2, 3, 4, 3), "bias": Const(ramp(dtype, 3))},
            },
            data_format=["NCHW", "NHWC"],
        )
