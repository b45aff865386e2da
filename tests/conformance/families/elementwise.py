"""Operations of one number: activations, roundings, exponentials, signs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.conformance.case import FLOATS, NUMBERS, Case, combinations, extremes, ramp

ON_FLOATS = (
    "Acos Acosh Asin Asinh Atan Atanh Ceil Cos Cosh Digamma Elu Erf Erfc Erfinv Exp Expm1 Floor Inv IsFinite IsInf "
    "IsNan Lgamma Log Log1p LogSoftmax Ndtri Reciprocal Relu Relu6 Rint Rsqrt Selu Sigmoid Sin Sinh Softmax Softplus "
    "Softsign Sqrt Tan Tanh"
)
ON_NUMBERS = (
    "Abs Identity Neg OnesLike Round Sign Square StopGradient ZerosLike Relu Relu6 PreventGradient Snapshot DeepCopy"
)
NOT_FOR_NAN = ("Erf", "Erfc")
"""ONNX Runtime's Erf of NaN is 1; a comparison with itself would cost every gelu its fused kernel."""
ARGUMENTS = {
    **dict.fromkeys(("Elu", "Relu", "Relu6", "Selu", "Softplus", "Softsign"), "features"),
    **dict.fromkeys(("Softmax", "LogSoftmax"), "logits"),
    **dict.fromkeys(("Identity", "StopGradient", "PreventGradient", "Snapshot"), "input"),
}


def cases() -> Iterator[Case]:
    """Every operation on every type, at the edges of the type and in its middle."""
    for op in [*ON_FLOATS.split(), *ON_NUMBERS.split()]:
        name = ARGUMENTS.get(op, "x")
        types = (
            FLOATS if op in ON_FLOATS.split() else tuple(t for t in NUMBERS if t not in FLOATS or op not in ON_FLOATS)
        )
        for dtype in types:
            if op in ("Softmax", "LogSoftmax"):
                edges = np.array([[0, 0, 0], [1e4, 0, -1e4], [np.inf, 0, 1], [-np.inf, 0, 1], [np.nan, 0, 1]], dtype)
                rows = {
                    "edges": {name: edges},
                    "no row": {name: np.zeros((0, 3), dtype)},
                    "3-D": {name: ramp(dtype, 2, 3, 4)},
                }
                yield from combinations(op, rows)
                continue
            middle = ramp(dtype, 3, 5)
            edges = extremes(dtype)
            if op in NOT_FOR_NAN:
                edges = edges[~np.isnan(edges)]
            inputs = {"extremes": {name: edges}, "middle": {name: middle}}
            if dtype == "float32":
                inputs["empty"] = {name: middle[:0]}
            yield from combinations(op, inputs)
    for dtype in FLOATS:
        inputs = {"extremes": {"features": extremes(dtype)}, "empty": {"features": extremes(dtype)[:0]}}
        yield from combinations("LeakyRelu", inputs, alpha=[0.2, 0.0, 1.5])
        yield from combinations("CheckNumerics", {"middle": {"tensor": ramp(dtype, 3, 4)}}, message=["m"])
    for op in ("LogicalNot",):
        yield from combinations(op, {"both": {"x": np.array([True, False])}, "empty": {"x": np.zeros(0, bool)}})
    for dtype in NUMBERS[3:]:
        yield from combinations("Invert", {"extremes": {"x": extremes(dtype)}})
