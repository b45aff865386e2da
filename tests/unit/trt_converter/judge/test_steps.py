"""The error between two tensors: the same by the short way for finite float32 as by the sketch of a comparison."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tpu2gpu.running.comparison.error_sketch import sketch_errors
from tpu2gpu.trt_converter.judge.steps import aligned, error_of

RANDOM = np.random.default_rng(5).normal(size=(2, 3, 4, 5)).astype(np.float32)
LARGEST = np.finfo(np.float32).max


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (RANDOM, RANDOM),
        (RANDOM, RANDOM + np.float32(1e-3)),
        (RANDOM, -RANDOM),
        (RANDOM, RANDOM[::-1]),
        (np.zeros(3, np.float32), np.zeros(3, np.float32)),
        (np.zeros(3, np.float32), np.full(3, 1e-30, np.float32)),
        (np.float32([LARGEST, 1]), np.float32([-LARGEST, 1])),
        (np.float32(2.0).reshape(()), np.float32(3.0).reshape(())),
        (RANDOM.astype(np.float64), RANDOM.astype(np.float64) + 1e-9),
        (RANDOM.astype(np.float16), RANDOM.astype(np.float16) + np.float16(0.5)),
    ],
)
def test_it_is_the_largest_error_by_the_largest_value(wanted: Any, found: Any) -> None:
    sketch = sketch_errors(wanted, found)
    largest = sketch.max_abs_reference
    expected = sketch.max_abs_error / largest if largest else math.inf if sketch.max_abs_error else 0.0
    assert error_of(wanted, found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_a_hole_is_no_small_error(hole: float) -> None:
    spoilt = RANDOM.copy()
    spoilt[1, 2, 3, 4] = hole
    assert error_of(RANDOM, spoilt) == math.inf
    assert error_of(spoilt, spoilt) == 0.0


def test_channels_first_are_put_last_where_both_forms_fit() -> None:
    square = RANDOM[:, :, :3, :3].copy()
    found = aligned(np.moveaxis(square, -1, 1), square)
    assert found is not None
    np.testing.assert_array_equal(found, square)
    assert aligned(RANDOM[:1], RANDOM) is None
