"""Casts of values: right rounding by exact arithmetic, NaN to NaN, the same bytes however a tensor is cut."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import google_crc32c
import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tpu2gpu.errors import CheckpointError
from tpu2gpu.tensorbundle import casting, format
from tpu2gpu.tensorbundle.casting import FLOATS, cast_values
from tpu2gpu.tensorbundle.checksum import combine
from tpu2gpu.tensorbundle.reader import Bundle
from tpu2gpu.tensorbundle.streaming import Wanted, cast_shard, plan_cast
from tpu2gpu.tensorbundle.writer import BundleWriter, write_index

Array = np.ndarray[Any, Any]

TYPES = {name: format.numpy_dtype(format.DTYPE_ENUMS[name]) for name in FLOATS}
# Digits with the hidden one, and exponent of the smallest normal number.
FORMATS = {"float16": (11, -14), "bfloat16": (8, -126), "float32": (24, -126), "float64": (53, -1022)}
BITS = {"float16": np.uint16, "bfloat16": np.uint16, "float32": np.uint32, "float64": np.uint64}

SPECIAL = [
    0.0, -0.0, 1.0, math.inf, -math.inf, math.nan, 65504.0, 65519.999, 65520.0, 2.0**-24, 2.0**-25, 1.5 * 2.0**-25,
    6e-8, 2.98e-8, 1e-40, 1e-45, 3.3895314e38, 3.4028235e38, 3.4028236e38, 1e300, 5e-324,
    1 + 2.0**-11, 1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-8 + 2.0**-30, 1 + 3 * 2.0**-8 - 2.0**-30,
]  # fmt: skip
VALUES = st.one_of(
    st.floats(width=64),
    st.floats(width=32),
    st.floats(width=16),
    st.sampled_from(SPECIAL),
    st.floats(-70000, 70000).map(lambda value: value * 2.0**-20),
    # Near the middle between two numbers of a short type, where rounding twice goes wrong.
    st.builds(
        lambda mantissa, exponent, nudge: (mantissa + 0.5) * 2.0**exponent * (1 + nudge * 2.0**-45),
        st.integers(128, 4095), st.integers(-40, 10), st.integers(-2, 2),
    ),
)  # fmt: skip
NAMES = st.sampled_from(FLOATS)


def rounded(value: float, target: str) -> float:
    """Rounding to nearest, ties to even, by exact arithmetic."""
    if not math.isfinite(value) or value == 0:
        return value
    digits, smallest = FORMATS[target]
    exact = abs(Fraction(value))
    exponent = max(math.frexp(abs(value))[1] - 1, smallest) - (digits - 1)
    unit = Fraction(2) ** exponent
    quotient, rest = divmod(exact, unit)
    quotient += rest * 2 > unit or (rest * 2 == unit and quotient % 2 == 1)
    result = quotient * unit
    largest = Fraction(casting.largest(TYPES[target]))
    return math.copysign(math.inf if result > largest else float(result), value)


def bits(values: Array) -> list[int]:
    return np.ascontiguousarray(values).view(BITS[values.dtype.name]).tolist()


@settings(max_examples=300)
@given(values=st.lists(VALUES, min_size=1, max_size=20), source=NAMES, target=NAMES)
@example(values=SPECIAL, source="float64", target="bfloat16")
@example(values=SPECIAL, source="float64", target="float16")
@example(values=SPECIAL, source="float32", target="float16")
@example(values=SPECIAL, source="float32", target="bfloat16")
def test_casts_round_to_nearest_even_once(values: list[float], source: str, target: str) -> None:
    with np.errstate(all="ignore"):
        before = np.array(values, np.float64).astype(TYPES[source])
    after, statistics = cast_values(before, TYPES[target])
    wanted = [rounded(float(value), target) for value in before]
    with np.errstate(all="ignore"):
        expected = np.array(wanted, np.float64).astype(TYPES[target])
    nan = np.isnan(before.astype(np.float64))
    assert after.dtype == TYPES[target]
    assert np.isnan(after.astype(np.float64))[nan].all()
    assert bits(after[~nan]) == bits(expected[~nan])
    assert statistics.nan_count == nan.sum()


@settings(max_examples=150)
@given(data=st.binary(min_size=8, max_size=160), source=NAMES, target=NAMES)
def test_every_bit_pattern_casts_nan_to_nan_and_numbers_to_numbers(data: bytes, source: str, target: str) -> None:
    before = np.frombuffer(data[: len(data) // 8 * 8], TYPES[source])
    after, _ = cast_values(before, TYPES[target])
    with np.errstate(invalid="ignore"):
        assert np.array_equal(np.isnan(before.astype(np.float64)), np.isnan(after.astype(np.float64)))


SHORT = ("float32", "bfloat16", "float16")


@settings(max_examples=100)
@given(values=st.lists(VALUES, min_size=1, max_size=40), source=st.sampled_from(SHORT), target=st.sampled_from(SHORT))
def test_tensorflow_agrees_bit_for_bit_among_float32_and_the_short_types(
    values: list[float], source: str, target: str
) -> None:
    import tensorflow as tf

    with np.errstate(all="ignore"):
        before = np.array(values, np.float64).astype(TYPES[source])
    nan = np.isnan(before.astype(np.float32))
    theirs = tf.cast(before, target).numpy()
    ours, _ = cast_values(before, TYPES[target])
    assert bits(ours[~nan]) == bits(theirs[~nan])


@pytest.mark.parametrize(
    ("value", "target", "right"),
    [
        (1 + 2.0**-11 + 2.0**-40, "float16", 1 + 2.0**-10),  # rounds to a tie first, and then to even
        (1 + 2.0**-8 + 2.0**-30, "bfloat16", 1 + 2.0**-7),
        (1e-40, "float32", float(np.float32(1e-40))),  # a subnormal result
    ],
)
def test_tensorflow_rounds_float64_twice_or_flushes_it_and_we_do_not(value: float, target: str, right: float) -> None:
    import tensorflow as tf

    values = np.full(64, value)  # long enough for TensorFlow's vector code
    ours, _ = cast_values(values, TYPES[target])
    assert set(ours.astype(np.float64)) == {right}
    assert set(tf.cast(values, target).numpy().astype(np.float64)) != {right}


def test_float16_rounds_as_tensorflow_does_at_every_step_and_around_every_middle() -> None:
    import tensorflow as tf

    steps = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (steps[1:] + steps[:-1]) / 2
    positive = np.concatenate(
        [steps, middles, np.nextafter(middles, np.float32(0)), np.nextafter(middles, np.float32(65504))]
    )
    before = np.concatenate([positive, -positive])
    after, found = cast_values(before, TYPES["float16"])
    assert bits(after) == bits(tf.cast(before, tf.float16).numpy())
    assert (found.overflow_count, found.nan_count, found.absmax) == (0, 0, 65504)


def test_long_arrays_get_the_bits_of_short_ones() -> None:
    random = np.random.default_rng(1)
    before = (random.integers(0, 1 << 16, 1 << 20, np.uint16).astype(np.uint32) << 13 | 0x20000000).view(np.float32)
    before = np.concatenate([before, np.array([np.nan, -np.nan, np.inf, 7e4], np.float32)])
    after, _ = cast_values(before, TYPES["float16"])
    pieces = [cast_values(piece, TYPES["float16"])[0] for piece in np.array_split(before, 50)]
    assert bits(after) == bits(np.concatenate(pieces))


def test_statistics_are_those_of_exact_arithmetic() -> None:
    random = np.random.default_rng(2)
    before = np.concatenate(
        [random.normal(0, 0.02, 200_000), random.normal(0, 1e-6, 5000), [0, 0, 1e-9, 7e4, -8e4, np.inf, np.nan]]
    ).astype(np.float32)
    after, found = cast_values(before, TYPES["float16"])
    wide, cast = before.astype(np.float64), after.astype(np.float64)
    measured = np.isfinite(wide) & np.isfinite(cast) & (wide != 0) & (cast != 0)
    errors = np.abs(cast[measured] - wide[measured]) / np.abs(wide[measured])
    assert (found.minimum, found.maximum, found.absmax) == (-8e4, np.inf, 8e4)
    assert (found.nan_count, found.infinity_count, found.overflow_count) == (1, 1, 2)
    assert found.flushed_to_zero_count == np.count_nonzero((wide != 0) & (cast == 0))
    assert found.subnormal_count == np.count_nonzero((cast != 0) & (np.abs(cast) < 2.0**-14))
    assert found.max_relative_error == pytest.approx(errors.max(), rel=1e-5)
    assert found.rms_relative_error == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-4)


@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("target", FLOATS)
def test_statistics_of_finite_values_are_those_of_exact_arithmetic(source: str, target: str) -> None:
    random = np.random.default_rng(3)
    values = np.concatenate([random.normal(0, 0.02, 300_000), random.normal(0, 1e-6, 9000), [0, 1e-9, -60000]])
    before = values.astype(TYPES[source])
    after, found = cast_values(before, TYPES[target])
    wide, cast = before.astype(np.float64), after.astype(np.float64)
    measured = (wide != 0) & (cast != 0)
    errors = np.abs(cast[measured] - wide[measured]) / np.abs(wide[measured])
    assert (found.minimum, found.maximum) == (wide.min(), wide.max())
    assert found.flushed_to_zero_count == np.count_nonzero((wide != 0) & (cast == 0))
    assert found.subnormal_count == np.count_nonzero((cast != 0) & (np.abs(cast) < 2.0 ** FORMATS[target][1]))
    assert found.max_relative_error == pytest.approx(errors.max(), rel=1e-5)
    assert found.rms_relative_error == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-4)


def test_without_statistics_overflow_is_still_found() -> None:
    _, found = cast_values(np.array([1, 7e4, np.nan], np.float32), TYPES["float16"], thorough=False)
    assert (found.overflow_count, found.nan_count, found.absmax, found.error_count) == (1, 1, 7e4, 0)


@given(first=st.binary(max_size=300), second=st.binary(max_size=300))
def test_checksums_of_parts_give_that_of_the_whole(first: bytes, second: bytes) -> None:
    together = combine(google_crc32c.value(first), google_crc32c.value(second), len(second))
    assert together == google_crc32c.value(first + second)


@settings(max_examples=25)
@given(
    chunk=st.integers(1, 40), threads=st.integers(1, 4), shard_bytes=st.integers(1, 4000), target=NAMES, data=st.data()
)
def test_any_chunks_threads_and_shards_give_the_values_of_one_cast(
    chunk: int, threads: int, shard_bytes: int, target: str, data: st.DataObject, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("bundle")
    random, tensors = np.random.default_rng(chunk), {}
    with BundleWriter(folder / "in") as writer:
        for number in range(data.draw(st.integers(1, 4))):
            values = random.normal(0, 1, data.draw(st.integers(0, 200))).astype(np.float32)
            tensors[f"t{number}"] = values
            writer.add_array(f"t{number}", values)
        writer.add_array("step", np.arange(5))
    bundle, wanted = Bundle(folder / "in"), format.DTYPE_ENUMS[target]
    plan = plan_cast(
        bundle,
        [Wanted(key, key, bundle.entry(key).dtype if key == "step" else wanted) for key in bundle],
        shard_bytes,
    )
    patched = pytest.MonkeyPatch()
    patched.setattr("tpu2gpu.tensorbundle.streaming.CHUNK_BYTES", 8 * chunk)
    patched.setattr("tpu2gpu.tensorbundle.streaming.PIECE_BYTES", 8 * data.draw(st.integers(1, 40)))
    with patched.context():
        written = []
        for shard in range(len(plan.shards)):
            path = format.shard_path(folder / "out", shard, len(plan.shards))
            written += cast_shard(bundle, plan, shard, path, threads=threads)
        write_index(folder / "out", {it.key: it.entry for it in written}, len(plan.shards))
    patched.undo()
    found = Bundle(folder / "out")
    for key, values in tensors.items():
        assert bits(found.read(key)) == bits(cast_values(values, TYPES[target])[0])
    assert found.read("step").tolist() == [0, 1, 2, 3, 4]


def test_a_damaged_source_is_named_tensor_by_tensor(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "in") as writer:
        for name in "abc":
            writer.add_array(name, np.ones(100, np.float32))
    path = format.shard_path(tmp_path / "in", 0, 1)
    stored = bytearray(path.read_bytes())
    stored[10] ^= 1
    stored[900] ^= 1
    path.write_bytes(stored)
    bundle = Bundle(tmp_path / "in")
    plan = plan_cast(bundle, [Wanted(key, key, format.DTYPE_ENUMS["float16"]) for key in bundle])
    with pytest.raises(CheckpointError, match="2 tensors") as caught:
        cast_shard(bundle, plan, 0, tmp_path / "out")
    assert caught.value.details == (f"a: in {path}", f"c: in {path}")


def test_damaged_strings_are_named_and_not_passed_on(tmp_path: Path) -> None:
    import tensorflow as tf

    tensors = {"numbers": tf.ones([4]), "sound": tf.constant([b"kept"]), "words": tf.constant([b"one", b"three"])}
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "in"),
        tensor_names=list(tensors),
        shape_and_slices=[""] * 3,
        tensors=list(tensors.values()),
    )
    path = format.shard_path(tmp_path / "in", 0, 1)
    path.write_bytes(path.read_bytes().replace(b"three", b"thref"))
    bundle = Bundle(tmp_path / "in")
    plan = plan_cast(bundle, [Wanted(key, key, bundle.entry(key).dtype) for key in bundle])
    with pytest.raises(CheckpointError, match="1 tensors") as caught:
        cast_shard(bundle, plan, 0, tmp_path / "out", threads=2)
    assert caught.value.details == (f"words: in {path}",)


def test_a_data_file_that_becomes_shorter_is_named_with_the_tensor(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "in") as writer:
        writer.add_array("value", np.ones(5000, np.float32))
    bundle = Bundle(tmp_path / "in")
    plan = plan_cast(bundle, [Wanted("value", "value", format.DTYPE_ENUMS["float16"])])
    path = format.shard_path(tmp_path / "in", 0, 1)
    os.truncate(path, 6000)
    for read in (lambda: bundle.read("value"), lambda: cast_shard(bundle, plan, 0, tmp_path / "out")):
        with pytest.raises(CheckpointError, match=f"{path}: became shorter while tensor 'value' was read"):
            read()


def test_bfloat16_subnormals_survive() -> None:
    tiny = np.array([1e-39, -3e-40], np.float32)
    after, found = cast_values(tiny, np.dtype(ml_dtypes.bfloat16))
    assert (after.astype(np.float32) != 0).all()
    assert found.subnormal_count == 2
