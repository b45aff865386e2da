"""Arrays of every dtype survive the file between two processes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tpu2gpu.running.arrays import load_arrays, numpy_dtype, save_arrays


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asarray([True, False]),
        np.asarray(3.5),
        np.zeros((0, 4), np.int8),
        np.asarray([[1.5, -2.0], [0.0, 3.0]], ml_dtypes.bfloat16),
        np.asarray([0.5, 1.0], ml_dtypes.float8_e4m3fn),
        np.asarray([1 + 2j]),
    ],
    ids=lambda array: f"{array.dtype.name}{list(array.shape)}",
)
def test_arrays_come_back_as_they_went(tmp_path, array):
    save_arrays(tmp_path / "a.npz", {"a b/c:0|d": array})
    back = load_arrays(tmp_path / "a.npz")
    assert list(back) == ["a b/c:0|d"]
    assert back["a b/c:0|d"].dtype == array.dtype
    np.testing.assert_array_equal(back["a b/c:0|d"], array)


def test_strings_come_back_byte_for_byte(tmp_path):
    texts = np.asarray([[b"", b"\x00end\x00"], [b"\xff\xd8 jpeg", "ü"]], object)
    save_arrays(tmp_path / "a.npz", {"text": texts})
    back = load_arrays(tmp_path / "a.npz")["text"]
    assert back.tolist() == [[b"", b"\x00end\x00"], [b"\xff\xd8 jpeg", "ü".encode()]]


def test_dtype_names():
    assert numpy_dtype("bfloat16") == ml_dtypes.bfloat16
    assert numpy_dtype("string").kind == "O"
    with pytest.raises(TypeError):
        numpy_dtype("float17")
