"""TF-TRT: what it would run in engines, what it writes, and what is missing where it cannot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import conversion_models, networks, tf_trt_stand_in
from tpu2gpu.errors import ConversionError, EnvironmentLacksError, UsageError
from tpu2gpu.hardware.cuda import Gpu, find_gpus
from tpu2gpu.process.worker import run_in_child
from tpu2gpu.running.loading import load
from tpu2gpu.running.opening import open_runner
from tpu2gpu.storage.publishing import verify_model
from tpu2gpu.trt_converter.backends import choice as backends
from tpu2gpu.trt_converter.backends.base import Availability
from tpu2gpu.trt_converter.backends.choice import probe
from tpu2gpu.trt_converter.backends.tf_trt import backend as tf_trt_backend
from tpu2gpu.trt_converter.backends.tf_trt.availability import why_no_tf_trt
from tpu2gpu.trt_converter.backends.tf_trt.coverage import (
    Engine,
    EngineCoverage,
    LeftOut,
    coverage_of,
    describe,
    read_reasons,
)
from tpu2gpu.trt_converter.backends.tf_trt.dry_run import find_coverage
from tpu2gpu.trt_converter.backends.tf_trt.segment import ENVIRONMENT
from tpu2gpu.trt_converter.converting import convert_model, dry_run
from tpu2gpu.trt_converter.options import ConvertOptions
from tpu2gpu.trt_converter.partition.costs import Costs

Built = Callable[..., Path]
TENSORFLOW = metadata.version("tensorflow")
HAS_TF_TRT = tuple(map(int, TENSORFLOW.split(".")[:2])) <= (2, 17)
with_tf_trt = pytest.mark.skipif(not HAS_TF_TRT, reason=f"TensorFlow {TENSORFLOW} has no TF-TRT any more")
without_library = pytest.mark.skipif(HAS_TF_TRT and not why_no_tf_trt(), reason="TensorRT 8 is on this machine")
TF_TRT = {"backend": "tf_trt", "layout": "plain"}


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    if tf_trt_stand_in.COMPILER is None:
        pytest.skip("no C compiler to build the stand-in for TensorRT 8 with")
    return tf_trt_stand_in.build_library(tmp_path_factory.mktemp("nvinfer") / "lib")


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Another Python process, for libraries are looked for where LD_LIBRARY_PATH said when it began."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def ask(environment: dict[str, str], question: str) -> Any:
    """The value of an expression in another process."""
    code = "import attrs, json; from tpu2gpu.trt_converter.backends.tf_trt.backend import *; "
    code += f"print(json.dumps({question}))"
    return json.loads(run(environment, "-c", code).stdout)


# ------------------------------------------------------------------------------------------------ dry run


@with_tf_trt
def test_a_dry_run_tells_what_runs_in_engines_and_why_not_the_rest(built: Built, stand_in: dict[str, str]) -> None:
    source = built(conversion_models.jpeg_detector)
    done = run(stand_in, "-m", "tpu2gpu", "convert", str(source), "--backend", "tf_trt", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    found = EngineCoverage.from_json(json.loads(done.stdout))
    inside = {op for engine in found.engines for op in engine.ops}
    assert {"Conv2D", "Relu"} <= inside
    why = {each.op: each.reason for each in found.left_out}
    assert why["DecodeJpeg"] == "Op type DecodeJpeg is not supported"
    assert why["ResizeBilinear"] == "Cannot Convert Bilinear Resize when align_corners=False"
    assert all(each.reason for each in found.left_out)
    assert 0.9 < found.share_of_compute < 1
    assert found.operations_in_engines < found.operations
    assert not list(source.parent.glob("*.report.json"))


@with_tf_trt
def test_the_converter_itself_cuts_as_the_dry_run_does(built: Built, stand_in: dict[str, str], tmp_path: Path) -> None:
    source = built(networks.convnet)
    arguments = {"source": str(source), "precision": "float16", "minimum_segment_size": 3}
    environment = {**ENVIRONMENT, **stand_in}
    dry, _ = run_in_child(
        "tpu2gpu.trt_converter.backends.tf_trt.segment:segment",
        {**arguments, "signature": "serving_default"},
        name="dry run",
        environment=environment,
    )
    done, _ = run_in_child(
        "tests.models.tf_trt_stand_in:rewrite",
        {**arguments, "target": str(tmp_path / "model")},
        name="TF-TRT",
        environment={**environment, "PYTHONPATH": str(Path(__file__).parents[4])},
    )
    assert done == dry
    assert dry["operations_in_engines"] == dry["operations"] > 0
    assert b"TRTEngineOp" in (tmp_path / "model" / "saved_model.pb").read_bytes()
    assert b"FP16" in (tmp_path / "model" / "saved_model.pb").read_bytes()


@with_tf_trt
def test_a_model_of_which_nothing_becomes_an_engine_is_refused(
    built: Built, stand_in: dict[str, str], tmp_path: Path
) -> None:
    arguments = {"source": str(built(conversion_models.fixed_batch)), "precision": "float32"}
    with pytest.raises(ConversionError, match="makes no engine of anything") as caught:
        run_in_child(
            "tests.models.tf_trt_stand_in:rewrite",
            {**arguments, "minimum_segment_size": 50, "target": str(tmp_path / "model")},
            name="TF-TRT",
            environment={**ENVIRONMENT, **stand_in, "PYTHONPATH": str(Path(__file__).parents[4])},
        )
    assert "1 Sum: TF-TRT takes it, but made no engine of 50 operations or more around it" in caught.value.details
    assert "--minimum-segment-size" in caught.value.hint


def graphs() -> tuple[Any, Any]:
    """A graph and what a segmenter could make of it: two operations in an engine, a lookup refused, a sum alone."""
    from tensorflow.core.framework import graph_pb2

    given, found = graph_pb2.GraphDef(), graph_pb2.GraphDef()
    for name, op in (("x", "MatMul"), ("y", "Relu"), ("words", "LookupTableFindV2"), ("sum", "AddV2")):
        given.node.add(name=name, op=op, input=["a", "b"])
    body = found.library.function.add()
    body.signature.name = "body"
    for name, op in (("x", "MatMul"), ("y", "Relu"), ("w", "Const")):
        body.node_def.add(name=name, op=op, input=["arg:0", "w:output:0"])
    engine = found.node.add(name="engine", op="TRTEngineOp")
    engine.attr["segment_func"].func.name = "body"
    for name, op in (("words", "LookupTableFindV2"), ("in", "Placeholder"), ("sum", "AddV2")):
        found.node.add(name=name, op=op, input=["in"])
    return given, found


LOG = """\
2026-01-01 00:00:00: I segment.cc:922] Not a TF-TRT candidate, (Op type: NoOp), (Op name: _SINK), (Reason: Op type NoOp is not supported.)
2026-01-01 00:00:00: I segment.cc:922] Not a TF-TRT candidate, (Op type: LookupTableFindV2), (Op name: words), (Reason: no (such) thing.)
"""  # noqa: E501 - as TensorFlow prints them


def test_operations_and_compute_are_counted_inside_and_outside() -> None:
    shapes = {"x": (None, 4), "a": (None, 8), "y": (None, 4), "words": (None,), "sum": (None, 6)}
    given, converted = graphs()
    found = coverage_of(converted, given, Costs(shapes, {}), LOG, 3)
    assert found.engines == (Engine("engine", 2, 2 * 8 * 4 + 4, {"MatMul": 1, "Relu": 1}),)
    alone = "TF-TRT takes it, but made no engine of 3 operations or more around it"
    assert found.left_out == (
        LeftOut("AddV2", ("sum",), 6, alone),
        LeftOut("LookupTableFindV2", ("words",), 1, "no (such) thing"),
    )
    assert (found.operations_in_engines, found.operations) == (2, 4)
    assert found.share_of_compute == 68 / 75
    assert EngineCoverage.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_reader_is_told_all_of_it() -> None:
    coverage = EngineCoverage(
        (Engine("engine", 2, 1500, {"MatMul": 1, "Relu": 1}),), (LeftOut("Where", ("w",), 500, "no"),)
    )
    assert describe(coverage) == [
        "2 of 3 operations in 1 engine, 75.0 % of the compute",
        "  engine: 2 operations, 1,500 FLOPs for one example (1 MatMul, 1 Relu)",
        "left to TensorFlow",
        "  1 Where, 500 FLOPs: no",
    ]


def test_reasons_are_read_by_node() -> None:
    assert read_reasons(LOG) == {"_SINK": "Op type NoOp is not supported", "words": "no (such) thing"}


# ------------------------------------------------------------------------------------------------ what is missing


@without_library
def test_without_tf_trt_a_dry_run_says_what_is_missing(tmp_path: Path) -> None:
    missing = (
        f"TensorFlow {TENSORFLOW} wants libnvinfer.so.8 and libnvinfer_plugin.so.8 (TensorRT 8), not found"
        if HAS_TF_TRT
        else f"TensorFlow {TENSORFLOW} has no TF-TRT any more; 2.17 was the last"
    )
    with pytest.raises(EnvironmentLacksError) as caught:
        find_coverage(tmp_path, ConvertOptions(backend="tf_trt"))
    assert "segmenter cannot be run here" in caught.value.message
    assert missing in caught.value.message


@without_library
def test_without_tf_trt_a_conversion_says_what_is_missing(built: Built, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacksError, match=f"tf_trt cannot be used here: TensorFlow {TENSORFLOW}"):
        convert_model(built(conversion_models.fixed_batch), tmp_path / "model", ConvertOptions(**TF_TRT))
    assert not list(tmp_path.iterdir())


@with_tf_trt
@pytest.mark.skipif(bool(find_gpus()), reason="there is a GPU here")
def test_without_a_gpu_the_hint_is_a_dry_run(stand_in: dict[str, str]) -> None:
    found = ask(stand_in, "attrs.asdict(TfTrt().probe())")
    assert (found["available"], found["version"]) == (False, "8.6.1")
    assert "builds on a GPU only" in found["reason"] and "--dry-run" in found["reason"]


@with_tf_trt
def test_an_older_tensorrt_is_named_with_the_version_that_is_needed(stand_in: dict[str, str], tmp_path: Path) -> None:
    older = tf_trt_stand_in.build_library(tmp_path / "lib", 8501)
    assert ask(older, "why_no_tf_trt()") == (
        f"TensorFlow {TENSORFLOW} wants TensorRT 8.6.1 or newer of 8, and libnvinfer.so.8 is 8.5.1"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [({"backend": "tf_trt"}, "--layout triton with --backend tf_trt"), ({**TF_TRT, "int8": True}, "--int8")],
)
def test_options_that_contradict_it_are_refused(options: dict[str, Any], message: str, built: Built) -> None:
    with pytest.raises(UsageError, match=message):
        convert_model(built(conversion_models.fixed_batch), "nowhere", ConvertOptions(**options))


@pytest.mark.parametrize("backend", ["auto", "onnx"])
def test_a_dry_run_is_of_tf_trt_alone(tmp_path: Path, backend: str) -> None:
    with pytest.raises(UsageError, match=f"--dry-run with --backend {backend}"):
        dry_run(tmp_path, ConvertOptions(backend=backend))


def test_the_doctor_names_it() -> None:
    assert probe()["tf_trt"].available == (HAS_TF_TRT and not why_no_tf_trt() and bool(find_gpus()))


# ------------------------------------------------------------------------------------------------ the folder


@pytest.mark.parametrize("layout", ["plain", "tf_serving"])
def test_the_folder_serves_and_says_what_it_needs(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """The engines' builder is replaced by a copy of the source: what is written around it is judged here."""
    source = built(networks.convnet)
    coverage = EngineCoverage(
        (Engine("engine", 3, 900, {"Conv2D": 2, "Relu": 1}),), (LeftOut("Where", ("w",), 100, "no"),)
    )
    runner = open_runner(source)
    asked: dict[str, Any] = {}

    def build(request: Any, function: str, name: str, environment: Any, **arguments: Any) -> tuple[dict[str, Any], int]:
        asked.update(arguments)
        shutil.copytree(source, arguments["target"])
        figures = {"error": 1e-4, "nan_count": 0, "inf_count": 0, "worst_example": 0, "worst_element": 0}
        return {
            "parity": {spec.name: figures for spec in runner.outputs},
            "compared_on": "synthetic inputs",
            "batched": True,
            "coverage": coverage.to_json(),
            "inputs": [spec.to_json() for spec in runner.inputs],
            "outputs": [spec.to_json() for spec in runner.outputs],
            "engine_size_bytes": 7,
            "conversion_s": 1.0,
            "build_s": 2.0,
            "parity_s": 3.0,
            "versions": {"tensorflow": TENSORFLOW},
        }, 5

    seen = {"tf_trt": Availability("tf_trt", True, "8.6.1", "builds for the GPU")}
    monkeypatch.setattr(backends, "probe", lambda *_: seen)
    monkeypatch.setattr(tf_trt_backend, "tensorrt_version", lambda: "8.6.1")
    monkeypatch.setattr(tf_trt_backend, "find_gpus", lambda: (Gpu(0, "GPU", "80", "12.4"),))
    monkeypatch.setattr("tpu2gpu.trt_converter.request.Request.in_child", build)
    options = ConvertOptions(backend="tf_trt", layout=layout, tf_trt_precision="float16", profile=("image=1:2:4",))
    result = convert_model(source, tmp_path / "model", options)
    assert (asked["precision"], asked["minimum_segment_size"]) == ("float16", 3)
    assert (result.backend, result.backend_version, result.verified_level) == ("tf_trt", "8.6.1", "engine_executed")
    assert (result.engine_coverage, result.metrics["operations"], result.relative_error) == (0.9, 4, 1e-4)
    readme = (tmp_path / "model" / "README.md").read_text()
    assert f"TensorFlow {TENSORFLOW} with TensorRT 8.6.1" in readme and "3 of 4 operations in 1 engine" in readme
    assert ("tf_serving/model/1" in readme) == (layout == "tf_serving")
    assert (tmp_path / "model" / "tf_serving/model/1/saved_model.pb").exists() == (layout == "tf_serving")
    feeds = {"image": np.random.default_rng(3).random((2, 8, 8, 1), np.float32)}
    for name, output in load(tmp_path / "model").run(feeds).items():
        np.testing.assert_array_equal(output, runner.run(feeds)[name])
    verify_model(tmp_path / "model")


@pytest.mark.gpu
@with_tf_trt
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_engines_are_built_and_answer_as_the_source(built: Built, tmp_path: Path, precision: str) -> None:
    if reason := why_no_tf_trt():
        pytest.skip(reason)
    options = ConvertOptions(**TF_TRT, tf_trt_precision=precision, profile=("image=1:2:4",))
    result = convert_model(built(networks.convnet), tmp_path / "model", options)
    assert result.verified_level == "engine_executed"
    assert result.engine_size_bytes > 0
    assert result.engine_coverage > 0.9
