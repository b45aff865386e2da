"""The kernels round as numpy and ml_dtypes do, whatever the bits; without them the same bytes come out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest

from tpu2gpu.tensorbundle import kernels
from tpu2gpu.tensorbundle.casting import Scratch, cast_values
from tpu2gpu.tensorbundle.format import DTYPE_ENUMS, numpy_dtype

Array = np.ndarray[Any, Any]

FLOAT32 = np.dtype(np.float32)
SHORT = ("float16", "bfloat16")
_AT_ONCE = 1 << 22


def check(bits: Array, source: str, target: str) -> None:
    """Compare a kernel's results with those of the library, NaNs aside, which stay NaNs of the same sign."""
    before, after = numpy_dtype(DTYPE_ENUMS[source]), numpy_dtype(DTYPE_ENUMS[target])
    values = np.ascontiguousarray(bits).view(before)
    out = np.empty(len(values), after)
    assert kernels.cast_into(values, out), "there is no kernel"
    with np.errstate(all="ignore"):
        expected = values.astype(after)
    unsigned = np.dtype(f"u{after.itemsize}")
    nan = np.isnan(values)
    wrong = (out.view(unsigned) != expected.view(unsigned)) & ~nan
    assert not wrong.any(), f"{values[wrong][:4]} became {out[wrong][:4]}, not {expected[wrong][:4]}"
    assert np.isnan(out[nan]).all()


@pytest.mark.parametrize("target", SHORT)
def test_float32_is_rounded_as_the_libraries_round(target: str) -> None:
    spread = np.arange(0, 1 << 32, 4093, dtype=np.uint32)
    check(spread, "float32", target)
    near = np.arange(-64, 65, dtype=np.int64)
    exponents = np.arange(0, 512, dtype=np.int64) << 23  # both signs
    ties = np.arange(0, 1 << 11, dtype=np.int64) << 12  # halves of both types' steps
    edges = (exponents[:, None] + ties[::37, None].T).ravel()[:, None] + near
    check((edges.ravel() & 0xFFFFFFFF).astype(np.uint32), "float32", target)


def test_each_float16_is_widened_as_numpy_does() -> None:
    check(np.arange(1 << 16, dtype=np.uint16), "float16", "float32")


@pytest.mark.slow
@pytest.mark.timeout(3600)  # numpy rounds four thousand million values to float16 in software
@pytest.mark.parametrize("target", SHORT)
def test_every_float32_is_rounded_as_the_libraries_round(target: str) -> None:
    for start in range(0, 1 << 32, _AT_ONCE):
        check(np.arange(start, start + _AT_ONCE, dtype=np.uint32), "float32", target)


@pytest.mark.parametrize("pair", kernels.PAIRS)
def test_the_models_are_those_that_onnx_would_write(pair: tuple[str, str]) -> None:
    model = onnx.load_from_string(kernels.cast_model(*pair))
    onnx.checker.check_model(model, full_check=True)
    (node,) = model.graph.node
    assert (node.op_type, len(node.attribute)) == ("Cast", 1)


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    kernels._sessions.cache_clear()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    yield
    kernels._sessions.cache_clear()


VALUES = np.concatenate([
    np.random.default_rng(0).standard_normal(3 << 16, np.float32) * np.float32(1e-4),
    np.zeros(100, np.float32), np.array([1e-9, -1e-30, 7e4, -1e9, np.inf, -np.inf, np.nan], np.float32),
])  # fmt: skip


@pytest.mark.parametrize("count", [3 << 16, len(VALUES)])
@pytest.mark.parametrize("target", SHORT)
def test_without_kernels_bytes_and_counts_are_the_same(target: str, count: int, request: pytest.FixtureRequest) -> None:
    values, wanted = VALUES[:count], numpy_dtype(DTYPE_ENUMS[target])
    by_kernel, found = cast_values(values, wanted, scratch=Scratch())
    by_kernel = by_kernel.copy()
    request.getfixturevalue("no_kernels")
    assert not kernels.cast_into(values, np.empty(count, wanted))
    otherwise, expected = cast_values(values, wanted, scratch=Scratch())
    assert by_kernel.tobytes() == otherwise.tobytes()
    exact = ("minimum", "maximum", "absmax", "nan_count", "infinity_count", "overflow_count", "flushed_to_zero_count")
    exact += ("subnormal_count", "max_relative_error", "error_count")
    assert {name: getattr(found, name) for name in exact} == {name: getattr(expected, name) for name in exact}
    assert found.squared_error_sum == pytest.approx(expected.squared_error_sum, rel=1e-6)


def test_a_kernel_that_rounds_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    truncating = kernels._run

    def run(session: Any, values: Array, out: Array) -> None:
        truncating(session, values, out)
        if out.dtype == np.float16:
            out.view(np.uint16)[:] &= 0xFFFE

    kernels._sessions.cache_clear()
    monkeypatch.setattr(kernels, "_run", run)
    assert set(kernels._sessions()) == {("float16", "float32"), ("float32", "bfloat16")}
    kernels._sessions.cache_clear()


def test_sessions_in_the_place_of_former_ones_get_bindings_of_their_own() -> None:
    for _ in range(150):  # as many as memory of 64 is bound for, twice over
        kernels._sessions.cache_clear()
        assert set(kernels._sessions()) == set(kernels.PAIRS)
