"""Patterns that JAX takes apart are one op again, and broadcasts are nodes only where nothing else does them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models.jax_exports import unpack
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.graphs.passes.base import Sequential
from tpu2gpu.graphs.passes.inline_stablehlo import InlineStableHlo
from tpu2gpu.graphs.passes.lower_xla_ops import LowerXlaOps
from tpu2gpu.graphs.stablehlo.lowering import control_flow

Built = Callable[..., Path]


@pytest.mark.parametrize(
    ("name", "there", "gone"),
    [
        ("cnn_jax04", ["Softmax", "Mean", "Relu", "Relu6", "AvgPool", "DepthwiseConv2dNative"], ["Exp", "BroadcastTo"]),
        ("transformer_jax04", ["Softmax", "Mean", "Square", "GatherV2"], ["Exp", "Max", "BroadcastTo", "Shape"]),
        ("transformer_xlaops_jax04", ["Softmax", "Mean", "Square", "GatherV2"], ["Exp", "Max", "BroadcastTo", "Range"]),
        ("embedding_jax04", ["LogSoftmax", "GatherV2"], ["Exp", "Log", "BroadcastTo", "Shape"]),
        ("keras_on_jax_jax04", ["Softmax", "MaxPool", "AvgPool"], ["Exp"]),
    ],
)
def test_ops_are_known_by_name(name: str, there: list[str], gone: list[str], built: Built) -> None:
    from tpu2gpu.checkpoint_importer.formats.registry import find_source
    from tpu2gpu.checkpoint_importer.options import ImportOptions

    model = find_source(built(unpack, name)).read(ImportOptions()).model
    Sequential([InlineStableHlo(), LowerXlaOps()]).run(model)
    ops = model.op_counts()
    assert not set(there) - ops.keys()
    assert not ops.keys() & set(gone)


@pytest.mark.parametrize("name", ["lstm_batch4_jax04", "lstm_xlaops_jax04"])
def test_a_short_scan_is_rolled_out(name: str, built: Built) -> None:
    model = read_saved_model(built(unpack, name))
    Sequential([InlineStableHlo(), LowerXlaOps()]).run(model)
    ops = model.op_counts()
    assert "StatelessWhile" not in ops
    assert (ops["Tanh"], ops["Sigmoid"]) == (14, 21)


def test_a_long_scan_is_a_loop_that_carries_what_changes_and_tells_its_rounds(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_flow, "MAX_ROUNDS", 6)
    model = read_saved_model(built(unpack, "lstm_batch4_jax04"))
    InlineStableHlo().run(model)
    (loop,) = (node for node in model.nodes.values() if node.op == "StatelessWhile")
    body = model.functions[loop.attr["body"].func.name]
    changed = [name for name, ref in body.ret.items() if ref not in {it.name for it in body.signature.input_arg}]
    assert len(changed) == 5  # the rounds, JAX's own counter, both states and the outputs so far
    assert int(model.nodes[loop.input[1]].attr["value"].tensor.int_val[0]) == 7
    assert "Sigmoid" in {node.op for node in body.node_def}
