"""A program's operations become nodes; what has no counterpart is named, all of it at once."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.stablehlo_programs import lowered, run
from tpu2gpu.errors import UnsupportedError

X = np.arange(12, dtype=np.float32).reshape(2, 6)


def test_padding_between_elements_spreads_them() -> None:
    found = run(
        X,
        "%z = stablehlo.constant dense<0.0> : tensor<f32>",
        "%0 = stablehlo.pad %x, %z, low = [0, 1], high = [0, -1], interior = [0, 1] : "
        "(tensor<2x6xf32>, tensor<f32>) -> tensor<2x11xf32>",
        "return %0 : tensor<2x11xf32>",
    )
    wanted = np.zeros((2, 11), np.float32)
    wanted[:, 1::2] = X[:, :5]
    np.testing.assert_array_equal(found, wanted)


def test_indices_outside_are_the_nearest_inside_for_slices_and_nothing_for_scatters() -> None:
    cut = run(
        X,
        "%i = stablehlo.constant dense<9> : tensor<i32>",
        "%j = stablehlo.constant dense<-3> : tensor<i32>",
        "%0 = stablehlo.dynamic_slice %x, %j, %i, sizes = [1, 2] : "
        "(tensor<2x6xf32>, tensor<i32>, tensor<i32>) -> tensor<1x2xf32>",
        "return %0 : tensor<1x2xf32>",
    )
    np.testing.assert_array_equal(cut, X[:1, 4:])
    added = run(
        X,
        "%i = stablehlo.constant dense<[[1], [7], [-1], [1]]> : tensor<4x1xi32>",
        "%u = stablehlo.constant dense<1.0> : tensor<4x6xf32>",
        '%0 = "stablehlo.scatter"(%x, %i, %u) <{scatter_dimension_numbers = '
        "#stablehlo.scatter<update_window_dims = [1],"
        " inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = 1>}> ({",
        "^bb0(%a: tensor<f32>, %b: tensor<f32>):",
        "  %s = stablehlo.add %a, %b : tensor<f32>",
        "  stablehlo.return %s : tensor<f32>",
        "}) : (tensor<2x6xf32>, tensor<4x1xi32>, tensor<4x6xf32>) -> tensor<2x6xf32>",
        "return %0 : tensor<2x6xf32>",
    )
    np.testing.assert_array_equal(added, X + np.array([[0], [2]], np.float32))


@pytest.mark.parametrize(("start", "rows"), [(0, slice(None, -1)), (1, slice(1, None)), (9, slice(1, None))])
def test_a_slice_of_all_rows_but_one_follows_the_batch(start: int, rows: slice) -> None:
    found = run(
        X,
        f"%i = stablehlo.constant dense<{start}> : tensor<1xi32>",
        "%c = stablehlo.constant dense<6> : tensor<1xi32>",
        "%m = stablehlo.constant dense<-1> : tensor<i32>",
        "%b = stablehlo.get_dimension_size %x, dim = 0 : (tensor<?x6xf32>) -> tensor<i32>",
        "%l = stablehlo.add %b, %m : tensor<i32>",
        "%r = stablehlo.reshape %l : (tensor<i32>) -> tensor<1xi32>",
        "%s = stablehlo.concatenate %r, %c, dim = 0 : (tensor<1xi32>, tensor<1xi32>) -> tensor<2xi32>",
        '%0 = "stablehlo.dynamic_gather"(%x, %i, %s) {dimension_numbers = #stablehlo.gather<offset_dims = [0, 1], '
        "start_index_map = [0]>} : (tensor<?x6xf32>, tensor<1xi32>, tensor<2xi32>) -> tensor<?x6xf32>",
        "return %0 : tensor<?x6xf32>",
        form="?x6",
    )
    np.testing.assert_array_equal(found, X[rows])


def test_one_value_for_all_needs_no_node() -> None:
    found = lowered(
        "%c = stablehlo.constant dense<2.0> : tensor<f32>",
        "%b = stablehlo.broadcast_in_dim %c, dims = [] : (tensor<f32>) -> tensor<2x6xf32>",
        "%0 = stablehlo.multiply %x, %b : tensor<2x6xf32>",
        "return %0 : tensor<2x6xf32>",
    )
    assert sorted(node.op for node in found.nodes.values()) == ["Const", "Identity", "Mul"]


def test_what_has_no_counterpart_is_named_all_at_once() -> None:
    with pytest.raises(UnsupportedError) as refused:
        lowered(
            "%0 = stablehlo.custom_call @own_kernel(%x) {mhlo.backend_config = {uplo = 76 : ui8}, operand_layouts = "
            "[dense<[1, 0]> : tensor<2xindex>]} : (tensor<2x6xf32>) -> tensor<2x6xf32>",
            "%1 = stablehlo.custom_call @Sharding(%0) : (tensor<2x6xf32>) -> tensor<2x6xf32>",
            "%2 = stablehlo.fft %1, type =  RFFT, length = [6] : (tensor<2x6xf32>) -> tensor<2x4xcomplex<f32>>",
            "return %1 : tensor<2x6xf32>",
        )
    assert "1 custom_call @own_kernel: code of its own, which nobody has reviewed" in refused.value.message
    assert "1 stablehlo.fft: no counterpart" in refused.value.message
    assert "Sharding" not in refused.value.message


def test_integers_divided_by_zero_are_what_xla_gives() -> None:
    found = run(
        X,
        "%i = stablehlo.convert %x : (tensor<2x6xf32>) -> tensor<2x6xi32>",
        "%z = stablehlo.constant dense<[[0, 1, 2, 0, -3, 2], [5, 0, 1, 2, 3, -4]]> : tensor<2x6xi32>",
        "%o = stablehlo.multiply %z, %i : tensor<2x6xi32>",
        "%d = stablehlo.divide %i, %o : tensor<2x6xi32>",
        "%r = stablehlo.remainder %i, %o : tensor<2x6xi32>",
        "%0 = stablehlo.concatenate %d, %r, dim = 0 : (tensor<2x6xi32>, tensor<2x6xi32>) -> tensor<4x6xi32>",
        "return %0 : tensor<4x6xi32>",
    )
    value = X.astype(np.int32)
    divisor = value * np.array([[0, 1, 2, 0, -3, 2], [5, 0, 1, 2, 3, -4]], np.int32)
    safe = np.where(divisor == 0, 1, divisor)
    quotient = np.where(divisor == 0, -1, np.trunc(value / safe)).astype(np.int32)
    rest = np.where(divisor == 0, value, value - quotient * safe)
    np.testing.assert_array_equal(found, np.concatenate([quotient, rest]))


@pytest.mark.parametrize("element", ["i8", "ui8", "i16", "i32", "ui32", "i64"])
@pytest.mark.parametrize("source", ["f32", "f16"])
def test_what_is_too_large_for_an_integer_is_the_largest_and_what_is_no_number_is_0(element: str, source: str) -> None:
    x = np.array([[300, -300, 1.9, -1.9, 1e12, -1e12], [np.nan, np.inf, -np.inf, 0, 65000, -40000]], np.float32)
    found = run(
        x,
        f"%1 = stablehlo.convert %x : (tensor<2x6xf32>) -> tensor<2x6x{source}>",
        f"%0 = stablehlo.convert %1 : (tensor<2x6x{source}>) -> tensor<2x6x{element}>",
        f"return %0 : tensor<2x6x{element}>",
    )
    limits = np.iinfo(found.dtype)
    with np.errstate(over="ignore"):
        given = x if source == "f32" else x.astype(np.float16)
    wanted = [
        0 if np.isnan(it) else limits.max if it > limits.max else max(int(max(it, -(2.0**63))), limits.min)
        for it in given.astype(np.float64).reshape(-1).tolist()
    ]
    assert found.reshape(-1).tolist() == wanted


def test_halves_are_rounded_away_from_zero_and_nothing_else_is() -> None:
    x = np.array([[0.5, -0.5, 1.5, -2.5, 0.49999997, -0.49999997], [8388609, -8388609, 4194304.5, 0, 1e30, -3]])
    found = run(
        x.astype(np.float32),
        "%0 = stablehlo.round_nearest_afz %x : tensor<2x6xf32>",
        "return %0 : tensor<2x6xf32>",
    )
    wanted = np.array([[1, -1, 2, -3, 0, 0], [8388609, -8388609, 4194305, 0, 1e30, -3]], np.float32)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("negative", ["negate %i", "subtract %z, %i"])
def test_the_negative_of_an_unsigned_integer_wraps_around(negative: str) -> None:
    found = run(
        X,
        "%i = stablehlo.convert %x : (tensor<2x6xf32>) -> tensor<2x6xui8>",
        "%z = stablehlo.constant dense<0> : tensor<2x6xui8>",
        f"%0 = stablehlo.{negative} : tensor<2x6xui8>",
        "return %0 : tensor<2x6xui8>",
    )
    np.testing.assert_array_equal(found, -X.astype(np.uint8))


@pytest.mark.parametrize("element", ["i8", "ui8", "i16", "ui16", "i32", "ui32"])
def test_products_of_integers_keep_their_lower_bits(element: str) -> None:
    x = np.arange(60, 72, dtype=np.float32).reshape(2, 6)
    found = run(
        x,
        f"%i = stablehlo.convert %x : (tensor<2x6xf32>) -> tensor<2x6x{element}>",
        "%0 = stablehlo.dot_general %i, %i, contracting_dims = [1] x [1] : "
        f"(tensor<2x6x{element}>, tensor<2x6x{element}>) -> tensor<2x2x{element}>",
        f"return %0 : tensor<2x2x{element}>",
    )
    np.testing.assert_array_equal(found, (x @ x.T).astype(np.int64).astype(found.dtype))


@pytest.mark.parametrize("element", ["i8", "ui8", "ui32"])
def test_places_may_be_of_any_integer_type_however_long_the_tensor(element: str) -> None:
    x = np.arange(300, dtype=np.float32)[None]
    taken = run(
        x,
        f"%i = stablehlo.constant dense<[[3], [100], [0]]> : tensor<3x1x{element}>",
        '%0 = "stablehlo.gather"(%x, %i) <{dimension_numbers = #stablehlo.gather<offset_dims = [0], '
        "collapsed_slice_dims = [1], start_index_map = [1], index_vector_dim = 1>, slice_sizes = array<i64: 1, 1>}> : "
        f"(tensor<1x300xf32>, tensor<3x1x{element}>) -> tensor<1x3xf32>",
        "return %0 : tensor<1x3xf32>",
        form="1x300",
    )
    np.testing.assert_array_equal(taken, [[3, 100, 0]])
    cut = run(
        x,
        "%s = stablehlo.slice %x [0:1, 120:121] : (tensor<1x300xf32>) -> tensor<1x1xf32>",
        "%r = stablehlo.reshape %s : (tensor<1x1xf32>) -> tensor<f32>",
        f"%i = stablehlo.convert %r : (tensor<f32>) -> tensor<{element}>",
        f"%z = stablehlo.constant dense<0> : tensor<{element}>",
        "%0 = stablehlo.dynamic_slice %x, %z, %i, sizes = [1, 2] : "
        f"(tensor<1x300xf32>, tensor<{element}>, tensor<{element}>) -> tensor<1x2xf32>",
        "return %0 : tensor<1x2xf32>",
        form="1x300",
    )
    np.testing.assert_array_equal(cut, [[120, 121]])


def test_what_is_not_a_number_is_sorted_behind_the_numbers() -> None:
    x = np.array([[3, np.nan, -1, np.inf, -np.inf, 0], [np.nan, 2, np.nan, 1, 0, -2]], np.float32)
    found = run(
        x,
        '%0 = "stablehlo.sort"(%x) <{dimension = 1 : i64, is_stable = true}> ({',
        "^bb0(%a: tensor<f32>, %b: tensor<f32>):",
        "  %1 = stablehlo.compare  LT, %a, %b,  TOTALORDER : (tensor<f32>, tensor<f32>) -> tensor<i1>",
        "  stablehlo.return %1 : tensor<i1>",
        "}) : (tensor<2x6xf32>) -> tensor<2x6xf32>",
        "return %0 : tensor<2x6xf32>",
    )
    np.testing.assert_array_equal(found, np.sort(x, axis=1))


def test_an_op_that_tensorflow_lacks_for_a_type_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="TensorFlow has none for uint32"):
        lowered(
            "%i = stablehlo.convert %x : (tensor<2x6xf32>) -> tensor<2x6xui32>",
            "%0 = stablehlo.power %i, %i : tensor<2x6xui32>",
            "return %0 : tensor<2x6xui32>",
        )


@pytest.mark.parametrize(
    ("element", "dtype"), [("i32", np.int32), ("i8", np.int8), ("ui8", np.uint8), ("ui32", np.uint32)]
)
def test_a_shift_by_more_bits_than_there_are_leaves_nothing(element: str, dtype: type) -> None:
    bits = np.iinfo(dtype).bits
    x = np.array([[100, 7, 100, 100, 1, 90], [0, 3, bits, bits + 1, bits - 1, 100]], np.float32)
    if np.iinfo(dtype).min < 0:
        x = np.array([[-100, 7, -100, 100, -1, -90], [0, 3, bits, bits + 1, bits - 1, -2]], np.float32)
    kind, names = f"tensor<1x6x{element}>", ("shift_left", "shift_right_arithmetic", "shift_right_logical")
    found = run(
        x,
        f"%m = stablehlo.convert %x : (tensor<2x6xf32>) -> tensor<2x6x{element}>",
        f"%a = stablehlo.slice %m [0:1, 0:6] : (tensor<2x6x{element}>) -> {kind}",
        f"%b = stablehlo.slice %m [1:2, 0:6] : (tensor<2x6x{element}>) -> {kind}",
        *(f"%{name} = stablehlo.{name} %a, %b : {kind}" for name in names),
        f"%0 = stablehlo.concatenate %{names[0]}, %{names[1]}, %{names[2]}, dim = 0 : ({kind}, {kind}, {kind}) -> "
        f"tensor<3x6x{element}>",
        f"return %0 : tensor<3x6x{element}>",
    )
    values, amounts = ([int(it) for it in row] for row in x)
    fits = [0 <= amount < bits for amount in amounts]
    wanted = [
        [value << amount if fit else 0 for value, amount, fit in zip(values, amounts, fits, strict=True)],
        [value >> (amount if fit else bits) for value, amount, fit in zip(values, amounts, fits, strict=True)],
        [
            value % 2**bits >> (amount if fit else bits)
            for value, amount, fit in zip(values, amounts, fits, strict=True)
        ],
    ]
    np.testing.assert_array_equal(found, (np.array(wanted) % 2**bits).astype(f"u{bits // 8}").view(dtype))


DIRECTIONS = {
    "EQ": np.equal, "NE": np.not_equal, "LT": np.less, "LE": np.less_equal, "GT": np.greater, "GE": np.greater_equal,
}  # fmt: skip


def compared(x: np.ndarray, element: str, kind: str) -> dict[str, np.ndarray]:
    """Compare the first row of %x, converted to another type, with the second one, in each direction."""
    side = f"tensor<1x6x{element}>"
    lines = [f"%m = stablehlo.convert %x : (tensor<2x6xf32>) -> tensor<2x6x{element}>"]
    for name, row in (("a", "0:1"), ("b", "1:2")):
        lines.append(f"%{name} = stablehlo.slice %m [{row}, 0:6] : (tensor<2x6x{element}>) -> {side}")
    lines += [
        f"%{name} = stablehlo.compare  {name}, %a, %b,  {kind} : ({side}, {side}) -> tensor<1x6xi1>"
        for name in DIRECTIONS
    ]
    all_of_them = ", ".join(f"%{name}" for name in DIRECTIONS)
    lines.append(
        f"%0 = stablehlo.concatenate {all_of_them}, dim = 0 : ({', '.join(['tensor<1x6xi1>'] * 6)}) -> tensor<6x6xi1>"
    )
    return dict(zip(DIRECTIONS, run(x, *lines, "return %0 : tensor<6x6xi1>"), strict=True))


@pytest.mark.parametrize(
    ("element", "dtype"), [("i8", np.int8), ("ui8", np.uint8), ("ui16", np.uint16), ("i64", np.int64)]
)
def test_integers_compare_as_their_type_does(element: str, dtype: type) -> None:
    x = np.array([[0, 3, 100, 7, 200, 5], [0, 100, 3, 200, 7, 5]], np.float32)
    found = compared(x, element, "UNSIGNED" if element[0] == "u" else "SIGNED")
    left, right = np.clip(x, np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)
    for name, function in DIRECTIONS.items():
        np.testing.assert_array_equal(found[name], function(left, right), name)


def test_booleans_compare_false_before_true() -> None:
    x = np.array([[0, 0, 1, 1, 0, 1], [0, 1, 0, 1, 1, 1]], np.float32)
    found = compared(x, "i1", "UNSIGNED")
    for name, function in DIRECTIONS.items():
        np.testing.assert_array_equal(found[name], function(*(x != 0)), name)


NOT_A_NUMBER = np.array([[0, np.nan, 1, np.nan, np.inf, 3], [1, 1, np.nan, np.nan, np.inf, 0]], np.float32)


@pytest.mark.parametrize("element", ["f32", "f16", "f64"])
def test_what_is_not_a_number_is_unequal_to_all_and_in_no_order(element: str) -> None:
    found = compared(NOT_A_NUMBER, element, "FLOAT")
    for name, function in DIRECTIONS.items():
        np.testing.assert_array_equal(found[name], function(*NOT_A_NUMBER), name)


def test_in_a_total_order_what_is_not_a_number_equals_itself_and_comes_last() -> None:
    found = compared(NOT_A_NUMBER, "f32", "TOTALORDER")
    bits = NOT_A_NUMBER.view(np.int32)  # of numbers that are not negative, these have their order
    for name, function in DIRECTIONS.items():
        np.testing.assert_array_equal(found[name], function(*bits), name)
