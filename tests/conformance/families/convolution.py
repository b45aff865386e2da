"""Convolutions and pooling: strides, dilations, paddings, layouts and types."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.conformance.case import FLOATS, Case, Const, combinations, first_output, ramp

PADDINGS = ("SAME", "VALID")


def cases() -> Iterator[Case]:
    """Every operation with every padding and stride; sizes that strides do not divide."""
    for dtype in FLOATS[:2]:
        yield from convolutions(dtype)
        yield from pools(dtype)
        yield from normalisation(dtype)
    for dtype in ("int32", "int8", "uint8", "int64"):
        x = ramp(dtype, 1, 7, 6, 3)
        yield from combinations(
            "MaxPool", {"7x6": {"input": x}}, ksize=[[1, 2, 2, 1]], strides=[[1, 2, 2, 1]], padding=PADDINGS
        )
    x = ramp("int32", 1, 7, 6, 3)
    yield from combinations(
        "Conv2D",
        {"int32": {"input": x, "filter": Const(ramp("int32", 3, 3, 3, 4))}},
        strides=[[1, 1, 1, 1]],
        padding=PADDINGS,
    )


def convolutions(dtype: str) -> Iterator[Case]:
    x = ramp(dtype, 2, 7, 6, 4)
    kernels = {
        "3x3": ramp(dtype, 3, 3, 4, 6, scale=0.3),
        "1x1": ramp(dtype, 1, 1, 4, 6),
        "2x3": ramp(dtype, 2, 3, 4, 6),
    }
    for label, kernel in kernels.items():
        inputs = {label: {"input": x, "filter": Const(kernel)}, f"{label} fed": {"input": x, "filter": kernel}}
        strides = [[1, 1, 1, 1], [1, 2, 2, 1], [1, 1, 3, 1], [1, 3, 2, 1]]
        few = strides if label == "3x3" else strides[1:2]
        yield from combinations("Conv2D", inputs, strides=few, padding=PADDINGS)
        yield from combinations(
            "Conv2D", inputs, strides=strides[:1], padding=PADDINGS, dilations=[[1, 2, 2, 1], [1, 1, 3, 1]]
        )
        explicit = [[0, 0, 1, 2, 0, 1, 0, 0]]
        yield from combinations("Conv2D", inputs, strides=strides[:2], padding=["EXPLICIT"], explicit_paddings=explicit)
        yield from combinations(
            "Conv2D",
            {f"empty {label}": {"input": x[:0], "filter": Const(kernel)}},
            strides=strides[:1],
            padding=["SAME"],
        )
    grouped = {"groups": {"input": x, "filter": Const(ramp(dtype, 3, 3, 2, 6))}}
    yield from combinations("Conv2D", grouped, strides=[[1, 1, 1, 1]], padding=PADDINGS)
    depthwise = {
        "times 2": {"input": x, "filter": Const(ramp(dtype, 3, 3, 4, 2))},
        "times 1": {"input": x, "filter": Const(ramp(dtype, 2, 3, 4, 1))},
    }
    yield from combinations("DepthwiseConv2dNative", depthwise, strides=[[1, 1, 1, 1], [1, 2, 2, 1]], padding=PADDINGS)
    yield from combinations(
        "DepthwiseConv2dNative", depthwise, strides=[[1, 1, 1, 1]], padding=PADDINGS, dilations=[[1, 2, 2, 1]]
    )
    for out in ((14, 12), (13, 11)):
        back = {
            f"to {out}": {
                "input_sizes": Const(np.array([2, *out, 4], np.int32)),
                "filter": Const(ramp(dtype, 3, 3, 4, 6, scale=0.1)),
                "out_backprop": ramp(dtype, 2, 7, 6, 6),
            }
        }
        yield from combinations("Conv2DBackpropInput", back, strides=[[1, 2, 2, 1]], padding=["SAME"])
    back = {
        "valid": {
            "input_sizes": Const(np.array([2, 15, 13, 4], np.int32)),
            "filter": Const(ramp(dtype, 3, 3, 4, 6, scale=0.1)),
            "out_backprop": ramp(dtype, 2, 7, 6, 6),
        }
    }
    yield from combinations("Conv2DBackpropInput", back, strides=[[1, 2, 2, 1]], padding=["VALID"])
    volume = ramp(dtype, 1, 4, 5, 6, 2)
    inputs = {"3-D": {"input": volume, "filter": Const(ramp(dtype, 2, 3, 3, 2, 3, scale=0.1))}}
    yield from combinations("Conv3D", inputs, strides=[[1, 1, 1, 1, 1], [1, 2, 1, 2, 1]], padding=PADDINGS)
    back = {
        "3-D": {
            "input_sizes": Const(np.array([1, 8, 10, 12, 3], np.int32)),
            "filter": Const(ramp(dtype, 2, 3, 3, 3, 2, scale=0.1)),
            "out_backprop": volume,
        }
    }
    yield from combinations("Conv3DBackpropInputV2", back, strides=[[1, 2, 2, 2, 1]], padding=["SAME"])
    dilated = {"dilation": {"input": ramp(dtype, 1, 7, 6, 4), "filter": Const(ramp(dtype, 3, 3, 4))}}
    yield from combinations(
        "Dilation2D", dilated, strides=[[1, 1, 1, 1]], rates=[[1, 1, 1, 1], [1, 2, 2, 1]], padding=PADDINGS
    )


def pools(dtype: str) -> Iterator[Case]:
    x = ramp(dtype, 2, 7, 6, 3)
    windows = [[1, 2, 2, 1], [1, 3, 2, 1]]
    strides = [[1, 1, 1, 1], [1, 2, 2, 1], [1, 3, 2, 1]]
    odd = x.copy()
    odd[0, 2, 2, 0], odd[1, 3, 3, 1], odd[1, 0, 0, 2] = np.inf, -np.inf, np.nan
    inputs = {"7x6": {"input": x}, "NaN and Inf": {"input": odd}, "empty": {"input": x[:0]}}
    yield from combinations("MaxPool", inputs, ksize=windows, strides=strides, padding=PADDINGS)
    yield from combinations(
        "AvgPool",
        {label: {"value": each["input"]} for label, each in inputs.items()},
        ksize=windows,
        strides=strides,
        padding=PADDINGS,
    )
    placed = {
        "7x6": {
            "input": x,
            "ksize": Const(np.array([1, 2, 2, 1], np.int32)),
            "strides": Const(np.array([1, 2, 2, 1], np.int32)),
        }
    }
    yield from combinations("MaxPoolV2", placed, padding=PADDINGS)
    yield from combinations(
        "MaxPoolWithArgmax",
        {"7x6": {"input": x}},
        ksize=windows[:1],
        strides=strides[:2],
        padding=PADDINGS,
        include_batch_in_index=[False, True],
    )
    yield from combinations(
        ["MaxPool3D", "AvgPool3D"],
        {"3-D": {"input": ramp(dtype, 1, 4, 5, 6, 2)}},
        ksize=[[1, 2, 2, 2, 1], [1, 2, 3, 2, 1]],
        strides=[[1, 1, 1, 1, 1], [1, 2, 2, 2, 1]],
        padding=PADDINGS,
    )
    patches = {"7x6": {"images": x}}
    yield from combinations(
        "ExtractImagePatches",
        patches,
        ksizes=windows,
        strides=strides[:2],
        rates=[[1, 1, 1, 1], [1, 2, 2, 1]],
        padding=PADDINGS,
    )


def normalisation(dtype: str) -> Iterator[Case]:
    x = ramp(dtype, 2, 5, 4, 3)
    parameters = "float32" if dtype == "float16" else dtype
    scale, offset, mean = (ramp(parameters, 3) + np.array(k, parameters) for k in (3, 1, 0))
    inputs = {
        "4-D": {
            "x": x,
            "scale": Const(scale),
            "offset": Const(offset),
            "mean": Const(mean),
            "variance": Const(np.abs(mean) + np.array(0.1, parameters)),
        }
    }
    yield from combinations(
        ["FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"],
        inputs,
        made_by=first_output,
        is_training=[False],
        epsilon=[1e-3, 0.0],
    )
    yield from combinations("LRN", {"4-D": {"input": x}}, depth_radius=[1, 2, 5], bias=[1.0], alpha=[0.5], beta=[0.75])
    yield from combinations("L2Loss", {"4-D": {"t": x}})
