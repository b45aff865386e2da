"""The largest relative error that two models may have, by the number type that they compute in.

A relative error is `max |candidate - reference| / max |reference|` of an output. Two questions are asked of it, so the
table has two columns:

- `conversion`: is the converted model broken? The converter asks, before anything is written, and mostly on synthetic
  inputs, far from what the model was trained on, where sums cancel and errors are larger.
- `budget`: is the model as good as the reference? The LatencyEvaluator asks, before a model is promoted, on examples
  like those trained on; `--max-relative-error` replaces it.

One column for both would either let worse models be promoted or refuse sound conversions.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs


@attrs.frozen
class Tolerance:
    """The relative errors allowed at one number type.

    Attributes:
        conversion: The largest that a conversion may have, for lack of `--tolerance`.
        budget: The largest that a candidate may have, for lack of `--max-relative-error`.
        reason: Why the budget is so large.
    """

    conversion: float
    budget: float
    reason: str


TOLERANCES: dict[str, Tolerance] = {
    "int8": Tolerance(
        0.25, 0.2, "256 levels, scaled by calibration: accuracy is the judge, this limit catches faults only"
    ),
    "bfloat16": Tolerance(
        2e-3,  # float32's: tf2onnx converts nothing that computes in bfloat16
        0.1,
        "8 significant bits round by 3.9e-3, 8 times as coarsely as float16",
    ),
    "float16": Tolerance(
        3e-2,
        2e-2,
        "11 significant bits round by 4.9e-4; sound conversions of deep networks came to 5e-4 to 1.7e-2",
    ),
    "float32": Tolerance(
        2e-3,
        1e-4,
        "24 significant bits round by 6e-8; sound conversions, which sum in another order, came to 1e-7 to 7e-5",
    ),
    "float64": Tolerance(2e-3, 1e-4, "as for float32, in which kernels may sum"),
}
"""From the coarsest type to the finest.

Conversions: both sides compute in the same type, but sum and round in another order. float32: 3e-6 was seen on inputs
like those of training, up to 1.4e-3 on random ones far from them. float16: 1.7e-2 was the most (ResNet-50 in float16
against float32), since ONNX Runtime's CPU computes in float32 inside operations. int8: 0.16 was seen on ResNet-50 with
random calibration data.

Budgets: "sound conversions" are ResNet, MobileNet, EfficientNet, LSTM and BERT graphs with realistic weights, in ONNX
Runtime against TensorFlow on examples like those trained on. TF32 on a GPU rounds like float16: then 2e-2 is the limit
to ask for.

Source: measured on ResNet-50, EfficientNet-B0, MobileNetV3 and BERT; TensorFlow 2.16, ONNX Runtime 1.23.
"""


def conversion_tolerance(dtype: str) -> float:
    """Return the largest relative error that a conversion may have at a dtype; float32's for an unknown one."""
    return TOLERANCES.get(dtype, TOLERANCES["float32"]).conversion


def default_budget(*dtypes: str) -> tuple[float, str]:
    """Return the largest relative error allowed between models of these dtypes, with the reason.

    The coarsest decides.
    """
    worst = coarsest(dtypes)
    return TOLERANCES[worst].budget, f"{worst}: {TOLERANCES[worst].reason}"


def coarsest(dtypes: Iterable[str]) -> str:
    """Return the coarsest of some number types; float32 where no floating-point type is among them."""
    found = set(dtypes)
    return next((dtype for dtype in TOLERANCES if dtype in found), "float32")
