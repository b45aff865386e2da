"""Modules, and ops around them, that nobody exported so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models.jax_exports import unpack
from tpu2gpu.errors import GraphError, Tpu2GpuError
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.passes.inline_stablehlo import InlineStableHlo
from tpu2gpu.graphs.stablehlo.artifact import XLA_CALL_MODULE, describe_modules
from tpu2gpu.graphs.stablehlo.deserializing import hint_for
from tpu2gpu.graphs.stablehlo.lower_module import _axis, read_head

Built = Callable[..., Path]


@pytest.fixture
def model(built: Built) -> ServingModel:
    return read_saved_model(built(unpack, "embedding_jax04"))


def test_platforms_that_are_no_text_are_told_as_they_are(model: ServingModel) -> None:
    node = next(node for node in model.nodes.values() if node.op == XLA_CALL_MODULE)
    node.attr["platforms"].list.s.append(b"\xff")
    assert r"\xff" in "".join(describe_modules(model))


@pytest.mark.parametrize("spec", [b"", b"x", b"0", b"9.0", b"-1.0", b"\xff", b"0.0.0", b"1" * 5000 + b".0"])
def test_a_size_of_no_input_is_told(spec: bytes, model: ServingModel) -> None:
    node = next(node for node in model.nodes.values() if node.op == XLA_CALL_MODULE)
    with pytest.raises(GraphError, match="takes a size of"):
        _axis(spec, ["x"], read_head(node))


def test_a_module_cut_off_is_refused(model: ServingModel) -> None:
    node = next(node for node in model.nodes.values() if node.op == XLA_CALL_MODULE)
    node.attr["module"].s = node.attr["module"].s[:200]
    with pytest.raises(Tpu2GpuError, match="cannot read the module"):
        InlineStableHlo().run(model)


def test_the_way_out_of_a_module_that_cannot_be_read_fits_what_is_in_it() -> None:
    assert "jax_use_shardy_partitioner" in hint_for(b"ML\xefR\0arith\0sdy\0stablehlo\0")
    assert "TensorFlow is as new as" in hint_for(b"ML\xefR\0arith\0stablehlo\0")
