"""The text of StableHLO modules is read as TensorFlow prints it, in both worlds."""

from __future__ import annotations

import numpy as np
import pytest

from tpu2gpu.errors import GraphError, UnsupportedError
from tpu2gpu.graphs.stablehlo.program import Operation
from tpu2gpu.graphs.stablehlo.text import parse_module, parse_type


def operations(*lines: str) -> list[Operation]:
    head = "module @m attributes {a = 1 : i32} {\nfunc.func public @main(%arg0: tensor<?x4xf32> {b = 1}) -> "
    return parse_module("\n".join([f"{head}(tensor<f32>) {{", *lines, "}", "}"]))["main"].body.operations


def test_types_hold_sizes_that_are_known_and_those_that_are_not() -> None:
    type_ = parse_type("tensor<?x12xi32>")
    assert (type_.sizes, type_.dtype) == ((None, 12), np.dtype(np.int32))
    assert parse_type("tensor<bf16>").sizes == ()
    with pytest.raises(UnsupportedError, match="f8E4M3FN"):
        assert parse_type("tensor<2xf8E4M3FN>").dtype


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("dense<[[1, 2], [3, 4]]> : tensor<2x2xi32>", np.array([[1, 2], [3, 4]], np.int32)),
        ("dense<0xFF800000> : tensor<f32>", np.array(-np.inf, np.float32)),
        ("dense<1.5> : tensor<2xf32>", np.array([1.5, 1.5], np.float32)),
        ('dense<"0x0000803F00000040"> : tensor<2xf32>', np.array([1, 2], np.float32)),
        ("dense<[true, false]> : tensor<2xi1>", np.array([True, False])),
        ("dense<-3> : tensor<i64>", np.array(-3, np.int64)),
        ("dense<> : tensor<0xi32>", np.zeros(0, np.int32)),
    ],
)
def test_constants_are_read_in_every_form(text: str, wanted: np.ndarray) -> None:
    (constant,) = operations(f"%0 = stablehlo.constant {text}")
    found = constant.attributes["value"]
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_pretty_and_generic_operations_are_read_alike() -> None:
    compared, window, cut = operations(
        "%0 = stablehlo.compare  GE, %arg0, %arg0,  FLOAT : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xi1>",
        '%1 = "stablehlo.reduce_window"(%arg0, %c) <{window_dimensions = array<i64: 1, 2>}> ({',
        "^bb0(%a: tensor<f32>, %b: tensor<f32>):",
        "  %2 = stablehlo.maximum %a, %b : tensor<f32>",
        "  stablehlo.return %2 : tensor<f32>",
        "}) {padding = dense<0> : tensor<2x2xi64>} : (tensor<?x4xf32>, tensor<f32>) -> tensor<?x3xf32>",
        "%3 = stablehlo.slice %arg0 [0:1, 0:4:2] : (tensor<?x4xf32>) -> tensor<1x2xf32>",
    )
    assert (compared.words, compared.operands, compared.types[0].element) == (["GE", "FLOAT"], ["%arg0"] * 2, "i1")
    assert window.attributes["window_dimensions"] == [1, 2]
    assert window.attributes["padding"].shape == (2, 2)
    assert [it.name for it in window.regions[0].operations] == ["stablehlo.maximum", "stablehlo.return"]
    assert cut.attributes["ranges"] == [(0, 1, 1), (0, 4, 2)]


def test_loops_reductions_and_several_results_are_read() -> None:
    loop, reduced = operations(
        "%0:2 = stablehlo.while(%i = %c, %x = %arg0) : tensor<i32>, tensor<?x4xf32>",
        " cond { stablehlo.return %i : tensor<i1> } do { stablehlo.return %i, %x : tensor<i32>, tensor<?x4xf32> }",
        "%1:2 = stablehlo.reduce(%a init: %b), (%c init: %d) across dimensions = [1] : "
        "(tensor<?x4xf32>, tensor<?x4xi32>, tensor<f32>, tensor<i32>) -> (tensor<?xf32>, tensor<?xi32>)",
        " reducer(%p: tensor<f32>, %q: tensor<f32>) (%r: tensor<i32>, %s: tensor<i32>) {",
        "  stablehlo.return %p, %r : tensor<f32>, tensor<i32>",
        " }",
    )
    assert (loop.results, loop.operands, len(loop.regions)) == (["%0#0", "%0#1"], ["%c", "%arg0"], 2)
    assert reduced.operands == ["%a", "%c", "%b", "%d"]
    assert reduced.regions[0].arguments == ["%p", "%r", "%q", "%s"]


def test_what_is_no_module_is_refused_with_its_line() -> None:
    with pytest.raises(GraphError, match=r"line 3: unexpected"):
        operations("&")


@pytest.mark.parametrize("text", ["module {", "module @a attributes {a = [", "module { func.func @main(%a"])
def test_a_text_that_ends_too_soon_is_refused(text: str) -> None:
    with pytest.raises(GraphError, match=r"unexpected '(end)?'"):
        parse_module(text)
