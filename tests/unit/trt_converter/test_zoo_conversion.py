"""The zoo of real architectures: ONNX parity, an engine, and the folder's outputs on real photographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import conversion_models, networks, zoo
from tests.models.example_files import write_examples
from tpu2gpu.precision_caster.casting import cast_model
from tpu2gpu.precision_caster.options import CastOptions
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.comparison.parity import compare
from tpu2gpu.running.loading import load
from tpu2gpu.running.opening import open_runner
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions

pytestmark = pytest.mark.engine
Built = Callable[..., Path]
SIZE = 64


def photographs(size: int = SIZE) -> dict[str, Array]:
    return {"image": zoo.photographs(4, size)}


# One of each kind by default, all of them and their full sizes in `make test-all`.
QUICK: list[Any] = [
    pytest.param(zoo.mobilenet_v3, {}, photographs, "float16", id="mobilenet_v3-float16"),
]
REDUCED: list[Any] = [
    pytest.param(zoo.resnet50, {}, photographs, "float32", id="resnet50"),
    pytest.param(zoo.resnet50, {}, photographs, "float16", id="resnet50-float16"),
    pytest.param(zoo.mobilenet_v3, {}, photographs, "float32", id="mobilenet_v3"),
    pytest.param(zoo.efficientnet_b0, {}, photographs, "float32", id="efficientnet_b0"),
    pytest.param(zoo.transformer, {}, lambda: zoo.sentences(4), "float32", id="transformer"),
    pytest.param(zoo.transformer, {}, lambda: zoo.sentences(4), "float16", id="transformer-float16"),
    pytest.param(zoo.lstm, {}, lambda: {"sequence": zoo.sequences(4)}, "float32", id="lstm"),
    pytest.param(zoo.lstm_v1, {}, lambda: {"sequence": zoo.sequences(4)}, "float32", id="lstm_v1"),
    pytest.param(zoo.retinanet, {}, photographs, "float32", id="retinanet"),
    pytest.param(zoo.jpeg_classifier, {}, lambda: {"image_bytes": zoo.jpegs(4)}, "float32", id="jpeg_classifier"),
    pytest.param(
        networks.tf1_network, {"resource": False}, lambda: {"x": np.ones((4, 4), np.float32)}, "float32", id="tf1"
    ),
]
FULL: list[Any] = [
    pytest.param(zoo.resnet50, zoo.FULL["resnet50"], lambda: photographs(224), "float16", id="resnet50-full-float16"),
    pytest.param(zoo.transformer, zoo.FULL["transformer"], lambda: zoo.sentences(2, length=128), "float32", id="bert"),
    pytest.param(zoo.retinanet, zoo.FULL["retinanet"], lambda: photographs(256), "float32", id="retinanet-full"),
]


def check(built: Built, tmp_path: Path, builder: Any, arguments: dict[str, Any], feeds: Any, precision: str) -> None:
    source = built(builder, **arguments)
    if precision == "float16":
        cast_model(source, tmp_path / "cast", CastOptions(to="float16", measure=False))
        cast = tmp_path / "cast"
    else:
        cast = source
    result = convert_model(cast, tmp_path / "serving", ConvertOptions(backend="tensorrt_rtx"))
    assert result.verified_level in ("engine_built", "engine_executed")
    assert result.engine_size_bytes > 0
    assert result.dtype == precision
    real = feeds()
    wanted = open_runner(source).run(real)
    for name, parity in compare(wanted, load(result.target).run(real)).items():
        if wanted[name].dtype.kind == "f":
            assert parity.relative_error < (2e-3 if precision == "float32" else 5e-2), name


@pytest.mark.parametrize(("builder", "arguments", "feeds", "precision"), QUICK)
def test_a_member_of_the_zoo_converts(
    built: Built, tmp_path: Path, builder: Any, arguments: dict[str, Any], feeds: Any, precision: str
) -> None:
    check(built, tmp_path, builder, arguments, feeds, precision)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("builder", "arguments", "feeds", "precision"), [*REDUCED, *FULL])
def test_all_of_the_zoo_converts(
    built: Built, tmp_path: Path, builder: Any, arguments: dict[str, Any], feeds: Any, precision: str
) -> None:
    check(built, tmp_path, builder, arguments, feeds, precision)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_eight_bits_keep_the_classes_of_photographs_that_it_was_not_calibrated_on(built: Built, tmp_path: Path) -> None:
    source = built(zoo.resnet50)
    images = zoo.photographs(40, SIZE)
    examples = write_examples(tmp_path / "photographs.tfrecord", {"image": images[8:]})
    options = ConvertOptions(backend="tensorrt_rtx", int8=True, int8_examples=32, examples=(str(examples),))
    result = convert_model(source, tmp_path / "serving", options)
    assert result.dtype == "int8"
    assert result.engine_size_bytes < 0.4 * sum(file.stat().st_size for file in (source / "variables").iterdir())
    feeds = {"image": images[:8]}
    (parity,) = compare(open_runner(source).run(feeds), load(result.target).run(feeds)).values()
    assert parity.relative_error < 0.25
    assert parity.top1_agreement is not None and parity.top1_agreement >= 0.75


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("builder", [zoo.transformer, zoo.retinanet, zoo.jpeg_classifier])
def test_a_second_conversion_writes_the_same_bytes(built: Built, tmp_path: Path, builder: Any) -> None:
    first, second = (convert_model(built(builder), tmp_path / name).target for name in ("first", "second"))
    kinds = (".onnx", ".engine", ".pbtxt", ".py", ".pb", ".json", ".md")
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.suffix in kinds)
    assert {"model.onnx", "engines/model.engine"} <= {file.as_posix() for file in files}
    for file in files:
        if file.name not in ("report.json", "manifest.json"):  # they hold seconds, and digests of those
            assert (first / file).read_bytes() == (second / file).read_bytes(), file


@pytest.mark.slow
def test_height_and_width_may_stay_unknown_with_a_profile(built: Built, tmp_path: Path) -> None:
    source = built(conversion_models.any_size)
    profile = ("image=1x32x32x3:4x64x64x3:8x128x128x3",)
    result = convert_model(source, tmp_path / "serving", ConvertOptions(backend="tensorrt_rtx", profile=profile))
    for size in (32, 96):
        (parity,) = compare(
            open_runner(source).run(photographs(size)), load(result.target).run(photographs(size))
        ).values()
        assert parity.relative_error < 2e-3
