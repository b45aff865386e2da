"""What `running.parity` promises of two sets of outputs."""

from __future__ import annotations

import itertools

import attrs
import ml_dtypes
import numpy as np
import pytest

from tpu2gpu.errors import ParityRefusedError
from tpu2gpu.running.comparison import error_sketch
from tpu2gpu.running.comparison.error_sketch import ErrorSketch, sketch_errors
from tpu2gpu.running.comparison.parity import OutputParity, compare


def one(reference, candidate) -> OutputParity:
    return compare({"y": np.asarray(reference)}, {"y": np.asarray(candidate)})["y"]


def test_the_same_outputs_have_no_error():
    scores = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    parity = one(scores, scores.copy())
    assert (parity.max_abs_error, parity.mean_abs_error, parity.relative_error) == (0, 0, 0)
    assert parity.cosine == pytest.approx(1)
    assert parity.top1_agreement == 1
    assert (parity.nan_count, parity.inf_count) == (0, 0)


def test_the_error_is_relative_to_the_largest_reference_and_its_place_is_told():
    reference = np.asarray([[0.0, 4.0], [1.0, -8.0]])
    candidate = np.asarray([[0.0, 4.0], [3.0, -8.0]])
    parity = one(reference, candidate)
    assert parity.max_abs_error == 2
    assert parity.mean_abs_error == 0.5
    assert parity.max_abs_reference == 8
    assert parity.relative_error == 0.25
    assert (parity.worst_example, parity.worst_element) == (1, (0,))


def test_zero_against_zero_is_no_error_and_something_against_zero_an_infinite_one():
    assert one([[0.0, 0.0]], [[0.0, 0.0]]).relative_error == 0
    assert one([[0.0, 0.0]], [[0.0, 1e-9]]).relative_error == float("inf")


def test_cosine_of_zero_vectors():
    assert one([[0.0, 0.0]], [[0.0, 0.0]]).cosine == 1
    assert one([[0.0, 0.0]], [[0.0, 1.0]]).cosine == 0
    assert one([[1.0, 0.0]], [[-2.0, 0.0]]).cosine == -1


@pytest.mark.parametrize(("bad", "nans", "infs"), [(np.nan, 1, 0), (np.inf, 0, 1), (-np.inf, 0, 1)])
def test_nan_and_infinity_in_the_candidate_are_counted_and_are_infinite_errors(bad, nans, infs):
    parity = one([[1.0, 2.0]], [[1.0, bad]])
    assert (parity.nan_count, parity.inf_count) == (nans, infs)
    assert parity.max_abs_error == float("inf")
    assert parity.relative_error == float("inf")
    assert parity.cosine is None
    assert (parity.worst_example, parity.worst_element) == (0, (1,))


def test_nan_and_infinity_on_both_sides_are_no_error():
    same = [[np.nan, np.inf, -np.inf, 2.0]]
    parity = one(same, same)
    assert (parity.nan_count, parity.inf_count, parity.max_abs_error) == (0, 0, 0)


def test_nan_in_the_reference_alone_is_an_infinite_error():
    parity = one([[np.nan, 1.0]], [[0.0, 1.0]])
    assert (parity.nan_count, parity.max_abs_error) == (0, float("inf"))


def test_opposite_infinities_are_an_infinite_error():
    assert one([[np.inf]], [[-np.inf]]).max_abs_error == float("inf")


def test_top1_agreement_counts_rows_whose_largest_element_moved():
    reference = np.eye(4, dtype=np.float32)
    candidate = reference[[0, 1, 2, 0]]
    assert one(reference, candidate).top1_agreement == 0.75


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 2, 2), (0, 3)])
def test_top1_agreement_is_for_class_scores_only(shape):
    assert one(np.ones(shape), np.ones(shape)).top1_agreement is None


def test_narrow_floats_are_compared_in_wide_ones():
    reference = np.asarray([[1.0, 3.0]], ml_dtypes.bfloat16)
    candidate = np.asarray([[1.0, 1.5]], ml_dtypes.bfloat16)
    parity = one(reference, candidate)
    assert parity.relative_error == 0.5
    assert parity.top1_agreement == 1


def test_large_integers_are_compared_exactly():
    assert one([2**62], [2**62 + 1]).max_abs_error == 1


def test_strings_and_booleans_are_equal_or_not():
    assert one(np.asarray([b"cat", b"dog"], object), np.asarray([b"cat", b"cow"], object)).max_abs_error == 1
    assert one([True, False], [True, True]).relative_error == 1
    assert one([False, False], [False, False]).relative_error == 0


def test_scalars_and_empty_outputs():
    scalar = one(2.0, 3.0)
    assert (scalar.relative_error, scalar.worst_example, scalar.worst_element) == (0.5, 0, ())
    empty = one(np.zeros((0, 3)), np.zeros((0, 3)))
    assert (empty.max_abs_error, empty.relative_error, empty.worst_example) == (0, 0, None)


def test_all_differences_in_form_are_told_at_once():
    reference = {"a": np.zeros(2), "b": np.zeros(2), "c": np.zeros((2, 3), np.float32), "d": np.zeros(2)}
    candidate = {"b": np.zeros(3), "c": np.zeros((2, 3), np.float16), "d": np.zeros(2), "e": np.zeros(2)}
    with pytest.raises(ParityRefusedError) as refused:
        compare(reference, candidate)
    assert refused.value.details == (
        "output a: missing",
        "output e: not in the reference",
        "output b: shape [3], the reference has [2]",
        "output c: float16, the reference has float32",
    )


def test_swapped_outputs_show_as_errors():
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    parity = compare({"a": left, "b": right}, {"a": right, "b": left})
    assert min(output.relative_error for output in parity.values()) > 0.1


def test_top5_agreement_is_the_share_of_the_five_best_classes_that_stay():
    reference = np.asarray([[6.0, 5, 4, 3, 2, 1, 0]] * 2)
    candidate = np.asarray([[2.0, 3, 4, 5, 6, 1, 0], [6.0, 5, 4, 3, 0, 1, 2]])
    parity = one(reference, candidate)
    assert (parity.top1_agreement, parity.top5_agreement) == (0.5, 0.9)
    assert one(np.eye(5), np.eye(5)).top5_agreement is None


def outputs_of_all_kinds() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(40, 12)).astype(np.float32)
    holes = scores + rng.normal(scale=1e-3, size=scores.shape).astype(np.float32)
    holes[7, 3], holes[30, 1] = np.nan, np.inf
    words = np.asarray([b"cat", b"dog"], object)[rng.integers(2, size=(40, 2))]
    return {
        "scores": (scores, scores + rng.normal(scale=1e-2, size=scores.shape).astype(np.float32)),
        "holes": (scores, holes),
        "pixels": (rng.normal(size=(40, 3, 5)), rng.normal(size=(40, 3, 5))),
        "classes": (rng.integers(2**62, size=(40,)), rng.integers(2**62, size=(40,))),
        "waves": (scores + 1j, scores - 1j),
        "words": (words, words[::-1].copy()),
        "half": (scores.astype(ml_dtypes.bfloat16), holes.astype(ml_dtypes.bfloat16)),
    }


@pytest.mark.parametrize("name", outputs_of_all_kinds())
def test_sketches_of_parts_add_up_to_the_sketch_of_all(name):
    reference, candidate = outputs_of_all_kinds()[name]
    whole = OutputParity.of(sketch_errors(reference, candidate))
    rng = np.random.default_rng(3)
    for _ in range(10):
        bounds = [0, *sorted(rng.choice(np.arange(1, 40), size=4, replace=False).tolist()), 40]
        parts = [
            sketch_errors(reference[first:last], candidate[first:last], first)
            for first, last in itertools.pairwise(bounds)
        ]
        rng.shuffle(parts)
        merged = OutputParity.of(sum(parts, start=ErrorSketch()))
        for field in attrs.fields(OutputParity):
            found, wanted = getattr(merged, field.name), getattr(whole, field.name)
            if field.name in ("mean_abs_error", "cosine", "top5_agreement") and wanted is not None:
                assert found == pytest.approx(wanted, rel=1e-12), field.name
            else:
                assert found == wanted, field.name


def test_large_outputs_are_compared_in_pieces_with_the_same_result(monkeypatch):
    reference, candidate = outputs_of_all_kinds()["pixels"]
    whole = compare({"y": reference}, {"y": candidate})["y"]
    monkeypatch.setattr(error_sketch, "_ELEMENTS_AT_ONCE", 31)
    pieces = compare({"y": reference}, {"y": candidate})["y"]
    assert pieces.cosine == pytest.approx(whole.cosine, rel=1e-12)
    assert attrs.evolve(pieces, cosine=None, mean_abs_error=0.0) == attrs.evolve(whole, cosine=None, mean_abs_error=0.0)
