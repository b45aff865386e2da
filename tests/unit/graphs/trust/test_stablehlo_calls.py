"""Custom calls of StableHLO are programs: those that only compute are known, every other one is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.models.jax_exports import unpack
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.graphs.stablehlo.lowering.lowering import unknown_calls
from tpu2gpu.graphs.stablehlo.text import parse_module
from tpu2gpu.graphs.trust.review import review_model

Built = Callable[..., Path]


def test_checks_of_shapes_and_known_functions_are_trusted(built: Built) -> None:
    assert review_model(read_saved_model(built(unpack, "vit_jax04"))) == []  # shape_assertion and mhlo.erf


def test_a_module_that_cannot_be_read_is_unknown(built: Built) -> None:
    model = read_saved_model(built(unpack, "cnn_jax04"))
    (node,) = (node for node in model.nodes.values() if node.op == "XlaCallModule")
    node.attr["module"].s = b"ML\xefR custom_call"
    (finding,) = review_model(model)
    assert (finding.does, finding.op) == ("unknown", "XlaCallModule")


def test_other_targets_are_named() -> None:
    call = "stablehlo.custom_call @{}() : () -> ()\n"
    calls = "".join(map(call.format, ("own_kernel", "Sharding", "mhlo.erf", "mhlo.own")))
    text = f"module @m {{\nfunc.func public @main() -> () {{\n{calls}return\n}}\n}}"
    assert unknown_calls(parse_module(text)) == ["mhlo.own", "own_kernel"]
