"""What goes wrong in libraries becomes an error of ours that says so: no abort, no None, no half result passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.models import conversion_models as models
from tests.models import fake_tensorrt
from tests.models.delicate_networks import wide_context
from tpu2gpu.errors import (
    ConversionError,
    EnvironmentLacksError,
    ExamplesError,
    SignatureError,
    SourceError,
    Tpu2GpuError,
    UnsupportedError,
    UsageError,
)
from tpu2gpu.hardware.tensorrt import DATA_CENTER
from tpu2gpu.running.local import engine_runner
from tpu2gpu.running.local.engine_runner import EngineRunner
from tpu2gpu.running.local.onnx_runner import OnnxRunner
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.running.serving_plan import read_plan
from tpu2gpu.trt_converter.backends import engine_build
from tpu2gpu.trt_converter.backends.tensorrt import TensorRt
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.onnx import convert as onnx
from tpu2gpu.trt_converter.onnx.quantize import quantise
from tpu2gpu.trt_converter.onnx.validate import check_onnx
from tpu2gpu.trt_converter.options import ConvertOptions

Built = Callable[..., Path]


# ------------------------------------------------------------------------------------------------ TensorRT


@pytest.fixture
def runner_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], EngineRunner]:
    """Makes a runner of an engine whose call of the given name does not succeed."""
    monkeypatch.setattr(engine_runner, "import_bindings", lambda library: fake_tensorrt)
    for name in ("Driver", "Stream", "Buffer", "GpuBreakdown"):
        monkeypatch.setattr(engine_runner, name, getattr(fake_tensorrt, name))

    def make(fails: str) -> EngineRunner:
        (tmp_path / "m.plan").write_bytes(fails.encode())
        return EngineRunner(tmp_path / "m.plan", library=DATA_CENTER)

    return make


@pytest.mark.parametrize(
    ("fails", "error", "message"),
    [
        ("deserialize_cuda_engine", SourceError, r"m.plan: TensorRT 10.13 cannot load it on a NVIDIA L4"),
        ("create_execution_context", EnvironmentLacksError, "no memory to run it on the GPU"),
        ("is_shape_inference_io", UnsupportedError, "the values of x are shapes"),
        ("set_input_shape", EnvironmentLacksError, r"x of shape \[2, 3\] was not taken"),
        ("get_tensor_shape", UnsupportedError, "the shape of y depends on the data"),
        ("execute_async_v3", EnvironmentLacksError, "the GPU did not run it"),
    ],
)
def test_a_call_of_tensorrt_that_does_not_succeed_is_an_error(
    runner_of: Callable[[str], EngineRunner], fails: str, error: type[Tpu2GpuError], message: str
) -> None:
    with pytest.raises(error, match=message):
        runner_of(fails).run({"x": np.zeros((2, 3), np.float32)})


def test_what_the_library_said_of_an_engine_is_passed_on(runner_of: Callable[[str], EngineRunner]) -> None:
    with pytest.raises(SourceError) as caught:
        runner_of("deserialize_cuda_engine")
    assert caught.value.details == ("the serialization version is 239, not 240",)
    assert "with the TensorRT that is installed here" in caught.value.hint


def test_the_runner_changes_the_profile_only_when_it_must(runner_of: Callable[[str], EngineRunner]) -> None:
    runner = runner_of("nothing")
    for batch in (2, 3, 7, 5, 1):
        assert runner.run({"x": np.zeros((batch, 3), np.float32)})["y"].shape == (2, 3)
    assert runner._context.profiles == [1, 0]
    with pytest.raises(SignatureError, match="shapes outside the engine's profile") as caught:
        runner.run({"x": np.zeros((9, 3), np.float32)})
    assert caught.value.details == ("x: given [9, 3], allowed [1, 3] to [4, 3] or [5, 3] to [8, 3]",)
    with pytest.raises(EnvironmentLacksError, match="no profile 1"):
        runner_of("set_optimization_profile_async").run({"x": np.zeros((8, 3), np.float32)})


def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **bindings: Any) -> None:
    module = ModuleType("tensorrt")
    module.__dict__.update({**vars(fake_tensorrt), **bindings})
    monkeypatch.setattr(engine_build, "import_bindings", lambda library: module)
    monkeypatch.setattr(TensorRt, "configure", lambda *_: None)
    monkeypatch.setattr(TensorRt, "network_file", lambda _, path: path)
    engine_build.build_engine(
        backend="tensorrt",
        onnx_path="m.onnx",
        engine_path=str(tmp_path / "m.plan"),
        profiles=[],
        compute_capabilities=["89"],
    )


def test_a_builder_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def builder(logger: Any) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    with pytest.raises(EnvironmentLacksError, match=r"TensorRT 10.13 does not start here") as caught:
        build(monkeypatch, tmp_path, Builder=builder)
    assert "factory function returned nullptr" in str(caught.value)


def test_a_builder_that_returns_none_without_a_word_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    builder = SimpleNamespace(create_network=lambda flags: None, build_serialized_network=lambda *_: None)
    parser = SimpleNamespace(parse_from_file=lambda path: True)
    with pytest.raises(ConversionError, match="TensorRT cannot build the engine") as caught:
        build(monkeypatch, tmp_path, Builder=lambda _: builder, OnnxParser=lambda *_: parser)
    assert caught.value.details == ("it gave no reason",)
    assert not (tmp_path / "m.plan").exists()


def test_an_unknown_dimension_beside_the_batch_is_named_with_a_hint(built: Built, tmp_path: Path) -> None:
    with pytest.raises(Tpu2GpuError, match="the engine's profile does not fit the model's inputs") as caught:
        convert_model(built(models.any_size), tmp_path / "serving", ConvertOptions(backend="tensorrt_rtx"))
    assert caught.value.details == ("image: float32 [?, ?, ?, 3]: a dimension beside the batch is unknown",)
    assert "give --profile INPUT=MIN:OPT:MAX with whole shapes" in caught.value.hint
    assert "onnx" not in json.loads((tmp_path / "serving.report.json").read_text())  # it was not converted in vain


def pixels_of_files(folder: Path) -> Path:
    """A network over image files of any size, whose pixels alone an engine can take: `files` string [?] -> `mean`."""
    import tensorflow as tf

    kernel = tf.constant(np.random.default_rng(4).normal(size=(3, 3, 3, 4)).astype(np.float32))
    pixels = tf.TensorSpec([None, None, 3], tf.uint8)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="files")])
    def serve(files: Any) -> Any:
        images = tf.map_fn(lambda file: tf.io.decode_jpeg(file, channels=3), files, fn_output_signature=pixels)
        return {"mean": tf.reduce_mean(tf.nn.conv2d(tf.cast(images, tf.float32) / 255.0, kernel, 1, "SAME"), [1, 2])}

    tf.saved_model.save(tf.Module(), str(folder), signatures=serve)
    return folder


def test_whole_shapes_that_a_cut_model_lacks_are_told_before_anything_runs(built: Built, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the engine's profile does not fit") as caught:
        convert_model(built(pixels_of_files), tmp_path / "serving", ConvertOptions(backend="tensorrt_rtx"))
    unknown, origin = caught.value.details
    assert unknown.startswith("cut_") and "[?, ?, ?, 3]: a dimension beside the batch is unknown" in unknown
    assert origin.endswith("what the part before the engine makes of files")
    assert "here --profile cut_" in caught.value.hint
    assert "=1xMINxMINx3:8xOPTxOPTx3:32xMAXxMAXx3, with the smallest" in caught.value.hint
    assert "onnx" not in json.loads((tmp_path / "serving.report.json").read_text())


# ------------------------------------------------------------------------------------------------ ONNX


def onnx_model(*nodes: Any, dtype: int = TensorProto.FLOAT, path: Path | None = None) -> Any:
    x = helper.make_tensor_value_info("x", dtype, ["batch", 4])
    y = helper.make_tensor_value_info("y", dtype, ["batch", 4])
    graph = helper.make_graph(list(nodes), "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if path is not None:
        path.write_bytes(model.SerializeToString())
    return model


def convert(source: Path, folder: Path) -> None:
    (folder / "references").mkdir()
    onnx.convert(
        source=str(source),
        signature="serving_default",
        opset=17,
        onnx_path=str(folder / "model.onnx"),
        reference_folder=str(folder / "references"),
        sizes=[{"batches": [1], "shapes": {}}],
        examples=[],
        reading={},
    )


def test_types_that_do_not_agree_are_no_sound_onnx() -> None:
    whole = helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64)
    with pytest.raises(ConversionError, match="the converted model is not sound ONNX"):
        check_onnx(onnx_model(whole, helper.make_node("Add", ["x", "whole"], ["y"])))


def test_what_onnx_runtime_does_not_run_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx_model(helper.make_node("Erf", ["x"], ["y"]), dtype=TensorProto.BFLOAT16, path=path)
    with pytest.raises(SourceError, match=r"m.onnx: ONNX Runtime does not take it"):
        OnnxRunner(path)
    with pytest.raises(ConversionError, match="ONNX Runtime does not run the converted model") as caught:
        onnx._open(str(path), SimpleNamespace(inputs=(), outputs=()), {})
    assert "cast the model" in caught.value.hint


def test_a_signature_that_changed_in_conversion_is_listed(tmp_path: Path) -> None:
    onnx_model(helper.make_node("Erf", ["x"], ["y"]), path=tmp_path / "m.onnx")
    reference = SimpleNamespace(
        inputs=(TensorSpec("x", "int32", (None, 4)), TensorSpec("z", "float32", ())),
        outputs=(TensorSpec("y", "float32", (None,)),),
    )
    names = {"inputs": {"x": "x", "z": "z"}, "outputs": {"y": "y"}}
    with pytest.raises(ConversionError, match="the converted model has another signature") as caught:
        onnx._open(str(tmp_path / "m.onnx"), reference, names)
    assert caught.value.details == (
        "input x: float32, was int32",
        "input z: missing",
        "output y: float32 [?, 4], was y: float32 [?]",
    )


def failing(*_: Any, **__: Any) -> None:
    raise ValueError("no idea\nwhat this is")


def refusing(*_: Any) -> None:
    raise UnsupportedError("not this one")


FREEZE = "tpu2gpu.trt_converter.onnx.freeze"


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"tf2onnx.convert.from_graph_def": failing}, r"tf2onnx cannot convert the model \(no idea\)"),
        (  # where our own way refuses the model
            {f"{FREEZE}.FreezeVariables.run": refusing, f"{FREEZE}._with_constants": failing},
            r"TensorFlow cannot freeze the model \(no idea\)",
        ),
    ],
)
def test_a_library_that_gives_up_is_named(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: dict[str, Any], message: str
) -> None:
    for name, function in replaced.items():
        monkeypatch.setattr(name, function)
    with pytest.raises(ConversionError, match=message):
        convert(built(models.elementary), tmp_path)
    assert not (tmp_path / "model.onnx").exists()


def choosy(folder: Path) -> Path:
    """A model that takes values above 100 only: `x` [?, 2] -> `y`."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def serve(x: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_greater(x, 100.0)]):
            return {"y": 2 * x}

    tf.saved_model.save(tf.Module(), str(folder), signatures=serve)
    return folder


def test_a_source_that_does_not_run_on_synthetic_inputs_asks_for_real_ones(built: Built, tmp_path: Path) -> None:
    with pytest.raises(ExamplesError, match=r"the source does not run on synthetic inputs \(seed 0") as caught:
        convert(built(choosy), tmp_path)
    assert caught.value.hint == "give --examples of real data"


def test_a_file_that_cannot_be_quantised_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08 nothing")
    with pytest.raises(ConversionError, match="ONNX Runtime cannot quantise the model"):
        quantise(
            onnx_path=str(tmp_path / "m.onnx"),
            reference_folder=str(tmp_path),
            names={"inputs": {}, "outputs": {}},
            per_channel=True,
            exclude=[],
            ranges_by="minmax",
        )


# ------------------------------------------------------------------------------------------------ serving folders


def test_a_plan_of_another_version_and_none_at_all_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no plan.json there"):
        read_plan(tmp_path)
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(SourceError, match=r"plan.json: damaged"):
        read_plan(tmp_path)
    (tmp_path / "plan.json").write_text(json.dumps({"format": 9}))
    with pytest.raises(UnsupportedError, match=r"plan.json: format 9, this version reads 1"):
        read_plan(tmp_path)


def test_a_comparison_of_nothing_is_refused(built: Built, tmp_path: Path) -> None:
    source = built(wide_context)
    with pytest.raises(ExamplesError, match="every output is empty") as refusal:
        convert_model(source, tmp_path / "short", ConvertOptions(backend="onnx", profile=("x=1x8x4:2x64x4:4x256x4",)))
    assert refusal.value.details == ("output y: always empty, [1, 0, 3] for one",)
    assert not (tmp_path / "short").exists()
    convert_model(source, tmp_path / "long", ConvertOptions(backend="onnx", profile=("x=1x601x4:2x700x4:4x900x4",)))
