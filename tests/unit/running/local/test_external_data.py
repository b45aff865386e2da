"""Weights beside an ONNX file: written when one file cannot hold them, and read from the model's own folder only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_library
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.models import zoo
from tests.models.example_files import write_examples
from tests.models.networks import convnet
from tpu2gpu.errors import SourceError, UnsupportedError, UsageError
from tpu2gpu.graphs.describing import variables_size_bytes
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.running.comparison.parity import compare
from tpu2gpu.running.loading import load
from tpu2gpu.running.local.external_data import check_external_data
from tpu2gpu.running.local.onnx_runner import OnnxRunner
from tpu2gpu.running.opening import open_runner
from tpu2gpu.storage.publishing import verify_model
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.layouts.serving_folder import onnx_digest
from tpu2gpu.trt_converter.onnx import convert as onnx
from tpu2gpu.trt_converter.onnx.validate import check_onnx
from tpu2gpu.trt_converter.options import ConvertOptions, ConvertResult
from tpu2gpu.trt_converter.parity import check_parity

Built = Callable[..., Path]
GIB = 1 << 30


def external_model(folder: Path, **about: str) -> Path:
    """An ONNX file that adds weights of ten numbers, which are said to be elsewhere."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [10])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [10])
    weights = numpy_helper.from_array(np.arange(10, dtype=np.float32), "w")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in about.items():
        weights.external_data.add(key=key, value=value)
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(exist_ok=True)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


def test_a_file_in_the_models_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "w.bin").write_bytes(bytes(8) + np.ones(10, np.float32).tobytes())
    path = external_model(tmp_path / "m", location="w.bin", offset="8", length="40")
    assert check_external_data(path) == [tmp_path / "m" / "w.bin"]
    assert OnnxRunner(path).run({"x": np.zeros(10, np.float32)})["y"].tolist() == [1.0] * 10


@pytest.mark.parametrize(
    ("about", "problem"),
    [
        ({"location": "../secret.bin"}, "not a path inside the model's folder"),
        ({"location": "inner/../../secret.bin"}, "not a path inside the model's folder"),
        ({"location": "/etc/hostname"}, "not a path inside the model's folder"),
        ({"location": "..\\secret.bin"}, "not a path inside the model's folder"),
        ({"location": ""}, "not a path inside the model's folder"),
        ({"location": "link.bin"}, "a link"),
        ({"location": "inner/secret.bin"}, "a link"),
        ({"location": "nothing.bin"}, "no such file"),
        ({"location": "hard.bin"}, "a hard link to a file outside the model's folder"),
        ({"location": "pipe.bin"}, "not a regular file"),
        ({"location": "*/_ORT_MEM_ADDR_/*"}, "an address in the runtime's memory"),
        ({"location": "short.bin", "offset": "8", "length": "40"}, "bytes 8 to 48, but the file has 10"),
        ({"location": "short.bin", "offset": "-8"}, "bytes -8 to -8, but the file has 10"),
        ({"location": "short.bin", "length": "many"}, "its offset or length is no number"),
    ],
)
def test_a_file_elsewhere_is_not_opened(tmp_path: Path, about: dict[str, str], problem: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(40))
    path = external_model(tmp_path / "m", **about)
    (path.parent / "link.bin").symlink_to(tmp_path / "secret.bin")
    (path.parent / "inner").symlink_to(tmp_path)
    (path.parent / "hard.bin").hardlink_to(tmp_path / "secret.bin")
    os.mkfifo(path.parent / "pipe.bin")
    (path.parent / "*" / "_ORT_MEM_ADDR_").mkdir(parents=True)
    (path.parent / "*" / "_ORT_MEM_ADDR_" / "*").write_bytes(bytes(40))
    (path.parent / "short.bin").write_bytes(bytes(10))
    with pytest.raises(SourceError, match=r"m.onnx: its external data cannot be used") as caught:
        OnnxRunner(path)
    assert caught.value.details == (f"tensor w: {about['location'] or 'no file'}: {problem}",)


def test_a_file_of_several_names_in_its_own_folder_is_read(tmp_path: Path) -> None:
    path = external_model(tmp_path / "m", location="w.bin")
    (tmp_path / "m" / "w.bin").write_bytes(bytes(40))
    (tmp_path / "m" / "again").mkdir()
    (tmp_path / "m" / "again" / "w.bin").hardlink_to(tmp_path / "m" / "w.bin")
    assert check_external_data(path) == [tmp_path / "m" / "w.bin"]


def test_tensors_in_the_bodies_of_branches_and_in_attributes_are_looked_at_too(tmp_path: Path) -> None:
    (outside,) = onnx_library.load(
        external_model(tmp_path, location="../w.bin"), load_external_data=False
    ).graph.initializer
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [10])
    constant = helper.make_node("Constant", [], ["y"], value=outside)
    body = helper.make_graph([constant], "body", [], [y], [])
    held = helper.make_graph([], "held", [], [y], [outside])
    branch = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=held)
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    model = helper.make_model(helper.make_graph([branch], "g", [condition], [y]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(SourceError) as caught:
        check_external_data(tmp_path / "m.onnx")
    assert len(caught.value.details) == 2


def test_a_damaged_file_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(external_model(tmp_path / "m", location="w.bin").read_bytes()[:-3])
    with pytest.raises(SourceError, match="damaged"):
        OnnxRunner(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(SourceError, match="damaged"):
        OnnxRunner(tmp_path / "m.onnx")


# ------------------------------------------------------------------------------------------------ conversions


def converted(source: Path, folder: Path, limit_bytes: int) -> dict[str, Any]:
    (folder / "references").mkdir(parents=True)
    return onnx.convert(
        source=str(source),
        signature="serving_default",
        opset=17,
        onnx_path=str(folder / "model.onnx"),
        reference_folder=str(folder / "references"),
        sizes=[{"batches": [1, 2], "shapes": {}}],
        examples=[],
        reading={},
        limit_bytes=limit_bytes,
    )


@pytest.mark.parametrize(
    ("builder", "options"), [(convnet, {"policy": "float16"}), (zoo.lstm, {"units": 32}), (zoo.transformer, {})]
)
def test_weights_beyond_the_limit_get_a_file_of_their_own(
    built: Built, tmp_path: Path, builder: Any, options: dict[str, Any]
) -> None:
    found = converted(built(builder, **options), tmp_path, limit_bytes=200)
    assert check_parity(found["parity"], 1e-2 if builder is convnet else 1e-5, "model.onnx") > 0
    data = tmp_path / "model.onnx.data"
    assert check_external_data(tmp_path / "model.onnx") == [data]
    assert found["size_bytes"] == data.stat().st_size + (tmp_path / "model.onnx").stat().st_size
    assert data.stat().st_size > 5 * (tmp_path / "model.onnx").stat().st_size or builder is not zoo.transformer
    check_onnx(onnx_library.load(tmp_path / "model.onnx"))  # with onnx's own reader, which checks places too
    assert found["ops"].get("LSTM", 0) == (2 if builder is zoo.lstm else 0)  # seen as such, not left as loops


def test_a_file_that_grows_in_conversion_is_written_in_two_as_well(built: Built, tmp_path: Path) -> None:
    source = built(convnet)
    whole = converted(source, tmp_path / "whole", limit_bytes=10**6)
    variables = variables_size_bytes(read_saved_model(source))
    assert variables < whole["size_bytes"]
    assert not (tmp_path / "whole" / "model.onnx.data").exists()
    found = converted(source, tmp_path / "two", limit_bytes=variables)
    assert (tmp_path / "two" / "model.onnx.data").stat().st_size > variables / 2
    assert found["ops"] == whole["ops"]


def test_new_weights_beside_the_same_file_have_another_digest(tmp_path: Path) -> None:
    for name, value in (("old", 1.0), ("new", 2.0)):
        path = external_model(tmp_path / name, location="m.onnx.data", offset="0", length="40")
        path.with_name("m.onnx.data").write_bytes(np.full(10, value, np.float32).tobytes())
    old, new = (tmp_path / name / "m.onnx" for name in ("old", "new"))
    assert old.read_bytes() == new.read_bytes()
    assert onnx_digest(old) != onnx_digest(new)


@pytest.fixture(scope="module")
def in_two(built: Built, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ConvertResult]:
    source = built(convnet)
    target = tmp_path_factory.mktemp("in_two") / "serving"
    return source, convert_model(source, target, ConvertOptions(max_onnx_bytes=1000))


@pytest.mark.engine
def test_a_serving_folder_has_both_files_and_an_engine_of_them(in_two: tuple[Path, ConvertResult]) -> None:
    source, result = in_two
    verify_model(result.target)
    both = [result.target / name for name in ("model.onnx", "model.onnx.data")]
    assert result.onnx_size_bytes == sum(file.stat().st_size for file in both)
    assert result.engine_size_bytes > both[1].stat().st_size
    home = result.target / "model_repository" / "model" / "1"
    assert [(home / file.name).read_bytes() for file in both] == [file.read_bytes() for file in both]
    assert f"/tmp/tensorrt-{onnx_digest(both[0])[:16]}" in (home.parent / "config.pbtxt").read_text()
    feeds = {"image": np.random.default_rng(5).random((3, 8, 8, 1), np.float32)}
    (parity,) = compare(open_runner(source).run(feeds), load(result.target).run(feeds)).values()
    assert parity.relative_error < 1e-5
    assert "its weights lie beside it" in (result.target / "README.md").read_text()


@pytest.mark.engine
def test_the_same_bytes_come_again(in_two: tuple[Path, ConvertResult], tmp_path: Path) -> None:
    source, first = in_two
    second = convert_model(source, tmp_path / "again", ConvertOptions(max_onnx_bytes=1000))
    for name in ("model.onnx", "model.onnx.data", "engines/model.engine"):
        assert (first.target / name).read_bytes() == (second.target / name).read_bytes(), name


def test_eight_bits_and_weights_in_a_file_of_their_own_exclude_each_other(built: Built, tmp_path: Path) -> None:
    images = np.random.default_rng(6).random((4, 8, 8, 1), np.float32)
    examples = write_examples(tmp_path / "images.tfrecord", {"image": images})
    options = ConvertOptions(backend="onnx", int8=True, examples=(str(examples),), max_onnx_bytes=1000)
    with pytest.raises(UnsupportedError, match="--int8: the weights take") as caught:
        convert_model(built(convnet), tmp_path / "serving", options)
    assert "cast the model to float16" in str(caught.value)


def test_no_limit_is_beyond_protobufs() -> None:
    with pytest.raises(UsageError, match="--max-onnx-bytes 2147483648: protobuf reads messages of at most"):
        ConvertOptions(max_onnx_bytes=1 << 31)


@pytest.mark.slow
@pytest.mark.skipif(
    psutil.virtual_memory().available < 14 * GIB, reason="2.2 GB of weights take 12 GiB to convert and to compare"
)
def test_more_than_two_gigabytes_are_converted(tmp_path: Path) -> None:
    code = "import sys, pathlib; from tests.models import conversion_models as m; m.wide(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "m")], check=True)
    result = convert_model(tmp_path / "m", tmp_path / "serving", ConvertOptions(backend="onnx", layout="plain"))
    assert (tmp_path / "serving" / "model.onnx.data").stat().st_size > 1 << 31
    assert result.relative_error < 1e-5
    print(json.dumps(result.metrics))
