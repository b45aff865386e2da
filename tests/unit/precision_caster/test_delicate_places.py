"""Places that a short type would ruin stay float32 by what the graph tells, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import delicate_networks, zoo
from tests.models.predictions import predict
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.precision_caster.casting import cast_model
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.tensorbundle.format import DTYPE_ENUMS

Built = Callable[..., Path]
F16, F32 = DTYPE_ENUMS["float16"], DTYPE_ENUMS["float32"]
MATRIX_OPS = ("BatchMatMulV2", "Conv2D", "DepthwiseConv2dNative", "Einsum", "MatMul")

# What stays, and what is still cast beside it.
KEPT = {
    "log_spectrogram": ({"conv1d", "conv1d_1"}, "a logarithm follows"),
    "log_mel": ({"conv1d", "conv1d_1", "Tensordot/MatMul"}, "a logarithm follows"),
    "variance_by_squares": ({"matmul", "Mean", "mul", "mul_1", "sub"}, "sums of squares are subtracted"),
    "temperature": ({"matmul_1"}, "its scores are multiplied before Softmax"),
    "cosine_similarity": ({"mul", "Sum", "mul_1"}, "the reciprocal truediv may be larger"),
    "distances": ({"matmul_1"}, "sums of squares are subtracted"),
    "cumulative_sums": ({"MatMul"}, "Cumsum feeds it"),
    "faint_filters": ({"faint", "matmul"}, "too small for float16"),
}


def example(name: str) -> Any:
    if name.startswith("log"):
        return delicate_networks.tones(8)
    shape = (8, 1024, 4) if name == "cumulative_sums" else (8, 16)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def relative_errors(source: Path, cast: Path, x: Any) -> dict[str, float]:
    wanted, found = predict(source, x=x), predict(cast, x=x)
    return {name: float(np.abs(found[name] - wanted[name]).max() / np.abs(wanted[name]).max()) for name in wanted}


@pytest.mark.parametrize("name", KEPT)
def test_what_a_cast_would_ruin_stays_without_any_example(name: str, built: Built, tmp_path: Path) -> None:
    source, (kept, reason) = built(getattr(delicate_networks, name)), KEPT[name]
    result = cast_model(source, tmp_path / "half", CastOptions(to="float16"))
    errors = relative_errors(source, tmp_path / "half", example(name))
    assert max(errors.values()) < 2e-3, errors
    reasons = {it["node"]: it["reason"] for it in result.report["kept"]}
    assert kept <= reasons.keys()
    assert any(reason in reasons[node] for node in kept)
    nodes = read_saved_model(tmp_path / "half").nodes.values()
    assert F16 in {node.attr["T"].type for node in nodes if node.op in MATRIX_OPS}  # the rest is cast


@pytest.mark.parametrize("name", ["log_mel", "variance_by_squares", "temperature", "distances"])
def test_a_rule_casts_them_all_the_same_and_the_outputs_show_why_not(name: str, built: Built, tmp_path: Path) -> None:
    source = built(getattr(delicate_networks, name))
    cast_model(source, tmp_path / "half", CastOptions(rule=("conv1d|matmul|mul|Mean|sub=float16",), measure=False))
    errors = relative_errors(source, tmp_path / "half", example(name))
    assert not max(errors.values()) < 0.01, errors


@pytest.mark.parametrize(
    "name",
    [
        *("mobilenet_v3", "lstm", "retinanet"),
        *(pytest.param(it, marks=pytest.mark.slow) for it in ("resnet50", "efficientnet_b0")),
    ],
)
def test_networks_without_such_a_place_keep_no_matrix_product(name: str, built: Built, tmp_path: Path) -> None:
    result = cast_model(built(getattr(zoo, name)), tmp_path / "half", CastOptions(measure=False))
    model = read_saved_model(tmp_path / "half")
    bodies = [node for function in model.functions.values() for node in function.node_def]
    types = [it.attr["T"].type for it in [*model.nodes.values(), *bodies] if it.op in MATRIX_OPS]
    assert set(types) == {F16}
    known = ["a logarithm", "a sum of squares", "sums of squares", "the square of", "the reciprocal", "its scores"]
    assert not [it for it in result.report["kept"] if it["reason"].startswith(tuple(known))]


def test_a_layer_norm_stays_where_its_reciprocal_can_leave_the_range(built: Built, tmp_path: Path) -> None:
    """1 / sqrt(0 + 1e-12) is a million, which float16 takes for infinity: a row of equal values became NaN."""
    source = built(zoo.transformer)
    result = cast_model(source, tmp_path / "half")
    model = read_saved_model(tmp_path / "half")
    reasons = {it["node"]: it["reason"] for it in result.report["kept"]}
    multiplied = [name for name, reason in reasons.items() if reason.startswith("the reciprocal")]
    assert {model.nodes[name].op for name in multiplied} == {"Mul"}
    assert {node.attr["T"].type for node in model.nodes.values() if node.op == "MatMul"} == {F16}
    assert result.kept_for_budget == ()
    assert not cast_model(source, tmp_path / "wide", CastOptions(to="bfloat16", measure=False)).report["kept_as_faint"]


def test_the_headline_counts_constants_as_it_counts_weights(built: Built, tmp_path: Path) -> None:
    source = built(delicate_networks.log_spectrogram)  # its filters are constants, and in part subnormal
    result = cast_model(source, tmp_path / "half", CastOptions(rule=("conv1d=float16",), measure=False))
    errors = [it["max_relative_error"] for it in [*result.report["weights"], *result.report["constants"]]]
    assert result.max_relative_error == max(errors) > 0.1
    assert max(it["max_relative_error"] for it in result.report["weights"]) < 1e-3
    assert result.cast_tensors == len(errors)
