"""Comparators, reducers and conditions are what they compute, not what they look like."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.stablehlo_programs import lowered, run
from tpu2gpu.errors import UnsupportedError

X = np.array([[3, -4, 0, 2, -4, 1], [0, 5, 5, -6, 2, -1]], np.float32)
_ROWS = "tensor<2x6xf32>"
_PAIR = "(tensor<f32>, tensor<f32>) -> tensor<i1>"


def sort(*comparator: str) -> list[str]:
    return [
        '%0 = "stablehlo.sort"(%x) <{dimension = 1 : i64, is_stable = true}> ({',
        "^bb0(%a: tensor<f32>, %b: tensor<f32>):",
        *comparator,
        "  stablehlo.return %1 : tensor<i1>",
        f"}}) : ({_ROWS}) -> {_ROWS}",
        f"return %0 : {_ROWS}",
    ]


@pytest.mark.parametrize(
    ("comparator", "wanted"),
    [
        ("LT, %a, %b", np.sort(X, 1)),
        ("GT, %b, %a", np.sort(X, 1)),
        ("GT, %a, %b", -np.sort(-X, 1)),
        ("LT, %b, %a", -np.sort(-X, 1)),
    ],
)
def test_a_sort_goes_the_way_its_comparator_says(comparator: str, wanted: np.ndarray) -> None:
    found = run(X, *sort(f"  %1 = stablehlo.compare  {comparator} : {_PAIR}"))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    "comparator",
    [
        ["%c = stablehlo.abs %a : tensor<f32>", "%d = stablehlo.abs %b : tensor<f32>",
         f"%1 = stablehlo.compare  LT, %c, %d : {_PAIR}"],
        [f"%c = stablehlo.compare  LT, %a, %b : {_PAIR}", "%1 = stablehlo.or %c, %c : tensor<i1>",
         f"%1 = stablehlo.compare  LT, %a, %a : {_PAIR}"],
        ["%c = stablehlo.sine %a : tensor<f32>", f"%1 = stablehlo.compare  LT, %c, %b : {_PAIR}"],
    ],
)  # fmt: skip
def test_a_sort_by_anything_but_its_keys_is_refused(comparator: list[str]) -> None:
    with pytest.raises(UnsupportedError, match=r"sort: by a comparator|a comparison by stablehlo.sine"):
        lowered(*sort(*comparator))


def test_a_comparator_may_use_constants_from_around_it() -> None:
    comparator = [
        f"%n = stablehlo.compare  NE, %a, %a : {_PAIR}",
        "%c = stablehlo.select %n, %nan, %a : tensor<i1>, tensor<f32>",
        f"%1 = stablehlo.compare  LT, %c, %b : {_PAIR}",
    ]
    found = run(X, "%nan = stablehlo.constant dense<0x7FC00000> : tensor<f32>", *sort(*comparator))
    np.testing.assert_array_equal(found, np.sort(X, 1))


def test_a_sort_by_another_than_the_first_tensor_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="sort: by a comparator"):
        lowered(
            '%0:2 = "stablehlo.sort"(%x, %x) <{dimension = 1 : i64}> ({',
            "^bb0(%a: tensor<f32>, %b: tensor<f32>, %c: tensor<f32>, %d: tensor<f32>):",
            f"  %1 = stablehlo.compare  LT, %c, %d : {_PAIR}",
            "  stablehlo.return %1 : tensor<i1>",
            f"}}) : ({_ROWS}, {_ROWS}) -> ({_ROWS}, {_ROWS})",
            f"return %0#0 : {_ROWS}",
        )


def extreme(direction: str, *, start: str = "0xFF800000", places: str = "[0, 1, 2, 3, 4, 5]") -> list[str]:
    """Return a reduction to the first number that stands in a relation to the others, and to what belongs to it."""
    forms = f"({_ROWS}, tensor<2x6xi32>, tensor<f32>, tensor<i32>) -> (tensor<2xf32>, tensor<2xi32>)"
    return [
        f"%p = stablehlo.constant dense<{places}> : tensor<6xi32>",
        "%q = stablehlo.broadcast_in_dim %p, dims = [1] : (tensor<6xi32>) -> tensor<2x6xi32>",
        f"%s = stablehlo.constant dense<{start}> : tensor<f32>",
        "%z = stablehlo.constant dense<0> : tensor<i32>",
        f"%0:2 = stablehlo.reduce(%x init: %s), (%q init: %z) across dimensions = [1] : {forms}",
        "reducer(%a: tensor<f32>, %c: tensor<f32>) (%b: tensor<i32>, %d: tensor<i32>)  {",
        f"  %1 = stablehlo.compare  {direction}, %a, %c : {_PAIR}",
        "  %2 = stablehlo.select %1, %a, %c : tensor<i1>, tensor<f32>",
        "  %3 = stablehlo.select %1, %b, %d : tensor<i1>, tensor<i32>",
        "  stablehlo.return %2, %3 : tensor<f32>, tensor<i32>",
        "}",
        "return %0#1 : tensor<2xi32>",
    ]


def test_the_place_of_an_extreme_is_that_of_the_first_one() -> None:
    np.testing.assert_array_equal(run(X, *extreme("GE")), X.argmax(1))
    np.testing.assert_array_equal(run(X, *extreme("LE", start="0x7F800000")), X.argmin(1))


def test_what_belongs_to_an_extreme_may_be_any_numbers() -> None:
    found = run(X, *extreme("GE", places="[7, 7, 3, 9, 1, 2]"))
    np.testing.assert_array_equal(found, np.array([7, 7, 3, 9, 1, 2])[X.argmax(1)])


@pytest.mark.parametrize(
    "lines",
    [extreme("GT"), extreme("GE", start="0.0"), extreme("NE")],
    ids=["the last of equal ones", "from another start", "no extreme"],
)
def test_another_reduction_of_two_tensors_is_refused(lines: list[str]) -> None:
    with pytest.raises(UnsupportedError, match="not to an extreme and its place"):
        lowered(*lines)


def test_a_loop_ends_by_all_that_its_condition_says() -> None:
    found = run(
        X,
        "%n = stablehlo.constant dense<9> : tensor<i32>",
        "%z = stablehlo.constant dense<0> : tensor<i32>",
        "%t = stablehlo.constant dense<true> : tensor<i1>",
        f"%0:4 = stablehlo.while(%i = %z, %y = %x, %m = %n, %go = %t) : tensor<i32>, {_ROWS}, tensor<i32>, tensor<i1>",
        " cond {",
        "  %1 = stablehlo.compare  LT, %i, %m : (tensor<i32>, tensor<i32>) -> tensor<i1>",
        "  %2 = stablehlo.and %1, %go : tensor<i1>",
        "  stablehlo.return %2 : tensor<i1>",
        "} do {",
        "  %one = stablehlo.constant dense<1> : tensor<i32>",
        "  %two = stablehlo.constant dense<2> : tensor<i32>",
        "  %3 = stablehlo.add %i, %one : tensor<i32>",
        f"  %4 = stablehlo.add %y, %y : {_ROWS}",
        "  %5 = stablehlo.compare  LT, %3, %two : (tensor<i32>, tensor<i32>) -> tensor<i1>",
        f"  stablehlo.return %3, %4, %m, %5 : tensor<i32>, {_ROWS}, tensor<i32>, tensor<i1>",
        "}",
        f"return %0#1 : {_ROWS}",
    )
    np.testing.assert_array_equal(found, X * 4)


def test_updates_that_something_is_subtracted_from_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"a reduction by 1 operations: stablehlo\.subtract"):
        lowered(
            "%i = stablehlo.constant dense<[[1]]> : tensor<1x1xi32>",
            "%u = stablehlo.constant dense<1.0> : tensor<1x6xf32>",
            '%0 = "stablehlo.scatter"(%x, %i, %u) <{scatter_dimension_numbers = '
            "#stablehlo.scatter<update_window_dims = [1],"
            " inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = 1>}> ({",
            "^bb0(%a: tensor<f32>, %b: tensor<f32>):",
            "  %s = stablehlo.subtract %b, %a : tensor<f32>",
            "  stablehlo.return %s : tensor<f32>",
            f"}}) : ({_ROWS}, tensor<1x1xi32>, tensor<1x6xf32>) -> {_ROWS}",
            f"return %0 : {_ROWS}",
        )


@pytest.mark.parametrize(("operation", "start", "function"), [
    ("maximum", "0xFF800000", np.maximum), ("minimum", "0x7F800000", np.minimum),
])  # fmt: skip
@pytest.mark.parametrize("padding", ["[[0, 0], [199, 0]]", "[[0, 0], [0, 199]]"])
def test_an_extreme_of_what_came_so_far_runs_along_any_length(
    operation: str, start: str, function: np.ufunc, padding: str
) -> None:
    x = np.random.default_rng(0).normal(size=(2, 200)).astype(np.float32)
    x[:, :3] = x[:, -3:] = -np.inf if operation == "maximum" else np.inf
    found = run(
        x,
        f"%s = stablehlo.constant dense<{start}> : tensor<f32>",
        '%0 = "stablehlo.reduce_window"(%x, %s) <{'
        f"padding = dense<{padding}> : tensor<2x2xi64>, window_dimensions = array<i64: 1, 200>}}> ({{",
        "^bb0(%a: tensor<f32>, %b: tensor<f32>):",
        f"  %1 = stablehlo.{operation} %a, %b : tensor<f32>",
        "  stablehlo.return %1 : tensor<f32>",
        "}) : (tensor<2x200xf32>, tensor<f32>) -> tensor<2x200xf32>",
        "return %0 : tensor<2x200xf32>",
        form="2x200",
    )
    turn = -1 if padding.startswith("[[0, 0], [0") else 1
    np.testing.assert_array_equal(found, function.accumulate(x[:, ::turn], axis=1)[:, ::turn])
