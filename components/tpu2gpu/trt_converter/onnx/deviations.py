"""Operations whose conversion to ONNX is known to answer otherwise than TensorFlow; they count as refused.

The conformance sweep (tests/conformance) finds them, and holds that there are no others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

_FLOATS = ("DT_HALF", "DT_FLOAT", "DT_DOUBLE")
_INTEGERS = tuple(f"DT_{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))


@attrs.frozen
class Deviation:
    """A conversion that answers otherwise.

    Attributes:
        why: How.
        when: Told a node, whether it is one of those; None for every node of the op.
    """

    why: str
    when: Callable[[Any], bool] | None = None


def _types(**wanted: tuple[str, ...]) -> Callable[[Any], bool]:
    """Return whether attributes of a node are among some types."""

    def fits(node: Any) -> bool:
        from tensorflow.core.framework import types_pb2

        return all(types_pb2.DataType.Name(node.attr[name].type) in types for name, types in wanted.items())

    return fits


def _either(*conditions: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda node: any(condition(node) for condition in conditions)


_RANDOM = "RandomUniform RandomUniformInt RandomStandardNormal RandomShuffle Multinomial SampleDistortedBoundingBox"
_RESIZED = "ONNX has no such kernel, and tf2onnx takes another"
DEVIATIONS: Mapping[str, Deviation] = {
    **dict.fromkeys(
        (*_RANDOM.split(), "SampleDistortedBoundingBoxV2"),
        Deviation("its random numbers are TensorFlow's, of its seeds; ONNX Runtime draws others"),
    ),
    "ResizeArea": Deviation(f"{_RESIZED}: the nearest pixel"),
    "ResizeBicubic": Deviation(f"{_RESIZED}: it weighs other pixels beyond the border and takes exact weights"),
    "CropAndResize": Deviation(
        "tf2onnx rounds the places of nearest pixels otherwise", lambda node: node.attr["method"].s == b"nearest"
    ),
    "CTCGreedyDecoder": Deviation(
        "tf2onnx takes the last class for the blank",
        lambda node: "blank_index" in node.attr and node.attr["blank_index"].i != -1,
    ),
    "AdjustSaturation": Deviation("tf2onnx's form gives other colours"),
    "Pow": Deviation("ONNX Runtime raises integers through float64, and does not wrap", _types(T=_INTEGERS)),
    "RightShift": Deviation("ONNX shifts without the sign", _types(T=("DT_INT8", "DT_INT16", "DT_INT32", "DT_INT64"))),
    "LogSoftmax": Deviation("ONNX Runtime loses NaN in float64", _types(T=("DT_DOUBLE",))),
    **dict.fromkeys(
        ("SegmentMax", "SegmentMin", "SegmentMean"),
        Deviation("of an empty segment tf2onnx gives the type's limit, or divides by zero, where TensorFlow gives 0"),
    ),
    **dict.fromkeys(
        ("UnsortedSegmentMax", "UnsortedSegmentMin"),
        Deviation("of an empty segment tf2onnx gives infinity, where TensorFlow gives the type's limit"),
    ),
    **dict.fromkeys(
        ("SparseSegmentMean", "SparseSegmentSqrtN"),
        Deviation("of an empty segment tf2onnx divides by zero, where TensorFlow gives 0"),
    ),
    **dict.fromkeys(
        ("DynamicStitch", "ParallelDynamicStitch"), Deviation("tf2onnx counts indices that come twice as two rows")
    ),
    "Cast": Deviation(
        "numbers beyond the integer type become others",
        _either(
            _types(SrcT=("DT_HALF",), DstT=tuple(each for each in _INTEGERS if each not in ("DT_INT32", "DT_INT64"))),
            _types(SrcT=_FLOATS, DstT=("DT_UINT32", "DT_UINT64")),
        ),
    ),
}
"""By op."""


def deviation(node: Any) -> str:
    """Return why a node's conversion is known to answer otherwise than TensorFlow; empty where it is not."""
    known = DEVIATIONS.get(node.op)
    return known.why if known is not None and (known.when is None or known.when(node)) else ""
