"""Resizing of images: all kernels, corner rules, factors up and down, types and channels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.conformance.case import Case, Const, combinations, ramp

RULES = ((False, False), (True, False), (False, True))
SIZES = ((4, 6), (8, 12), (9, 10), (2, 3), (3, 5), (1, 1), (5, 7), (7, 3), (16, 18))
TYPES = ("float32", "float16", "uint8", "int32", "float64", "int64", "int8", "int16", "uint16")
NAMES = ("ResizeNearestNeighbor", "ResizeBilinear", "ResizeBicubic", "ResizeArea")


def cases() -> Iterator[Case]:
    """Every kernel and rule on every size; crops out of bounds."""
    for dtype in TYPES:
        image = ramp(dtype, 2, 4, 6, 3)
        for size in SIZES if dtype == "float32" else SIZES[2:4]:
            inputs = {f"4x6 to {size[0]}x{size[1]}": {"images": image, "size": Const(np.array(size, np.int32))}}
            for name in NAMES[:3]:
                for corners, half in RULES:
                    yield from combinations(name, inputs, align_corners=[corners], half_pixel_centers=[half])
            yield from combinations("ResizeArea", inputs, align_corners=[False, True])
        for kernel in ("lanczos3", "triangle", "keyscubic") if dtype == "float32" else ():
            where = {"scale": Const(np.array([0.5, 1.5], np.float32)), "translation": Const(np.zeros(2, np.float32))}
            inputs = {"down and up": {"images": image, "size": Const(np.array([2, 9], np.int32)), **where}}
            yield from combinations("ScaleAndTranslate", inputs, kernel_type=[kernel], antialias=[False, True])
    fed = {"size is fed": {"images": ramp("float32", 2, 4, 6, 3), "size": np.array([9, 10], np.int32)}}
    for name in NAMES[:3]:
        for corners, half in RULES:
            yield from combinations(name, fed, dynamic=(False,), align_corners=[corners], half_pixel_centers=[half])
    for dtype in ("float32", "uint8", "float16"):
        image = ramp(dtype, 2, 5, 6, 3)
        boxes = np.array(
            [[0, 0, 1, 1], [0.1, 0.2, 0.7, 0.9], [-0.3, -0.2, 1.3, 1.4], [0.9, 0.9, 0.1, 0.1], [0.2, 0.2, 0.2, 0.2]]
        )
        crop = {"boxes": boxes.astype(np.float32), "box_ind": np.array([0, 1, 0, 1, 0], np.int32)}
        for size in ((3, 4), (1, 1), (7, 2)):
            inputs = {f"to {size}": {"image": image, **crop, "crop_size": Const(np.array(size, np.int32))}}
            yield from combinations(
                "CropAndResize", inputs, method=["bilinear", "nearest"], extrapolation_value=[0.0, 0.5]
            )
    factor = {
        "adjusted": {"images": np.abs(ramp("float32", 2, 3, 4, 3)) / 4, "contrast_factor": Const(np.float32(1.7))}
    }
    yield from combinations("AdjustContrastv2", factor)
    rgb = np.abs(ramp("float32", 2, 3, 4, 3)) / 3
    yield from combinations("AdjustSaturation", {"rgb": {"images": rgb, "scale": Const(np.float32(0.6))}})
    yield from combinations("AdjustHue", {"rgb": {"images": rgb, "delta": Const(np.float32(0.3))}})
    yield from combinations(["RGBToHSV", "HSVToRGB"], {"rgb": {"images": rgb}})
