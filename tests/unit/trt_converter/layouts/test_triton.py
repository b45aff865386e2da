"""Triton model repositories: the configuration says what the model is, and model.py runs it."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tpu2gpu.errors import UnsupportedError, UsageError
from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.trt_converter.layouts.triton import TritonModel, config_text, configuration, write_repository
from tpu2gpu.trt_converter.options import check_name

DIGEST = "0123456789abcdef" * 4


def model(**changes: Any) -> TritonModel:
    fields: dict[str, Any] = {
        "name": "digits",
        "backend": "onnxruntime",
        "inputs": [TensorSpec("images", "float32", (None, 8, 8, 1)), TensorSpec("scale", "float16", (None,))],
        "outputs": [TensorSpec("label", "int64", (None,)), TensorSpec("names", "string", (None, None))],
        "dtype": "float32",
        "max_batch": 32,
        "profiles": [{"images": ((1, 8, 8, 1), (8, 8, 8, 1), (32, 8, 8, 1))}],
        "digest": DIGEST,
        **changes,
    }
    return TritonModel(**fields)


def test_dimensions_leave_the_batch_out_and_single_numbers_are_reshaped() -> None:
    config = configuration(model())
    assert [(tensor.name, tensor.data_type, list(tensor.dims)) for tensor in config.input] == [
        ("images", 11, [8, 8, 1]),  # TYPE_FP32
        ("scale", 10, [1]),  # TYPE_FP16
    ]
    assert config.input[1].HasField("reshape") and not config.input[0].HasField("reshape")
    assert list(config.output[1].dims) == [-1]
    assert model().single_numbers == ["scale", "label"]
    assert config.max_batch_size == 32
    assert config.HasField("dynamic_batching")


def test_the_signature_of_the_source_is_told_where_names_and_shapes_differ() -> None:
    assert not configuration(model()).parameters
    source = TensorSpec("label", "int64", (None,))
    parameters = configuration(model(signature={"label_output": source})).parameters
    told = json.loads(parameters["tpu2gpu_signature"].string_value)
    assert {name: TensorSpec.from_json(spec) for name, spec in told.items()} == {"label_output": source}


def test_without_a_batch_all_dimensions_are_told() -> None:
    config = configuration(model(max_batch=0))
    assert list(config.input[0].dims) == [-1, 8, 8, 1]
    assert not config.HasField("dynamic_batching")


def accelerator(config: Any) -> dict[str, str]:
    (found,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert found.name == "tensorrt"
    return dict(found.parameters)


def test_tensorrt_gets_its_profile_and_a_cache_for_this_very_model() -> None:
    options = accelerator(configuration(model()))
    assert options["trt_profile_opt_shapes"] == "images:8x8x8x1"
    assert options["trt_engine_cache_path"].endswith(DIGEST[:16])
    assert "precision_mode" not in options


def test_several_profiles_come_one_after_the_other() -> None:
    first, second = {"ids": ((1, 8), (4, 16), (8, 64))}, {"ids": ((1, 64), (2, 128), (4, 512))}
    options = accelerator(configuration(model(profiles=[first, second])))
    assert options["trt_profile_min_shapes"] == "ids:1x8,ids:1x64"
    assert options["trt_profile_max_shapes"] == "ids:8x64,ids:4x512"


def test_an_engine_of_data_center_tensorrt_is_a_model_of_its_back_end(tmp_path: Path) -> None:
    (tmp_path / "model.plan").write_bytes(b"an engine")
    first = {"images": ((1, 8, 8, 1), (8, 8, 8, 1), (32, 8, 8, 1))}
    second = {"images": ((33, 8, 8, 1), (64, 8, 8, 1), (64, 8, 8, 1))}
    described = model(backend="tensorrt", profiles=[first, second], outputs=[TensorSpec("label", "int64", (None,))])
    path = write_repository(tmp_path, described, tmp_path / "model.plan", version=3)
    assert (path.parent / "3" / "model.plan").read_bytes() == b"an engine"
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    assert config.backend == "tensorrt"
    (group,) = config.instance_group
    assert (group.kind, list(group.profile)) == (group.KIND_GPU, ["0", "1"])
    assert not config.optimization.execution_accelerators.gpu_execution_accelerator


def test_a_float16_graph_may_run_in_float16() -> None:
    assert accelerator(configuration(model(dtype="float16")))["precision_mode"] == "FP16"


def test_the_text_is_the_same_every_time_and_reads_back() -> None:
    assert config_text(configuration(model())) == config_text(configuration(model()))


def test_what_triton_cannot_be_told_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="Triton cannot be told"):
        configuration(model(outputs=[TensorSpec("y", "complex64", (None,))]))
    with pytest.raises(UnsupportedError, match="Triton cannot be told"):
        configuration(model(outputs=[TensorSpec("y", "float32", (), ranked=False)]))
    with pytest.raises(UnsupportedError, match="no bfloat16"):
        configuration(model(backend="python", outputs=[TensorSpec("y", "bfloat16", (None,))]))


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "ä"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="a model's name"):
        check_name(name)


class Tensor:
    """What Triton's python back end hands over, as far as model.py uses it."""

    def __init__(self, name: str, value: np.ndarray) -> None:
        self.name, self.value = name, value

    def as_numpy(self) -> np.ndarray:
        return self.value


def response(output_tensors: list[Tensor], error: str = "") -> dict[str, Any]:
    return {"error": error} if error else {tensor.name: tensor.value for tensor in output_tensors}


def triton_stub() -> types.ModuleType:
    stub = types.ModuleType("triton_python_backend_utils")
    stub.Tensor = Tensor  # type: ignore[attr-defined]
    stub.TritonError = str  # type: ignore[attr-defined]
    stub.InferenceResponse = response  # type: ignore[attr-defined]
    stub.get_input_tensor_by_name = lambda request, name: Tensor(name, request[name])  # type: ignore[attr-defined]
    return stub


def emitted_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_batch: int) -> Any:
    """What Triton would call: the model.py of a repository for an ONNX file that sums rows, `x` [?, 2] -> `y` [?]."""
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    onnx = helper.make_model(
        helper.make_graph([node], "g", [x], [y], [axes]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    (tmp_path / "model.onnx").write_bytes(onnx.SerializeToString())
    inputs, outputs = [TensorSpec("x", "float32", (None, 2))], [TensorSpec("y", "float32", (None,))]
    described = model(backend="python", inputs=inputs, outputs=outputs, max_batch=max_batch, profiles=[])
    config = write_repository(tmp_path, described, tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", triton_stub())
    spec = importlib.util.spec_from_file_location("emitted", config.parent / "1" / "model.py")
    assert spec is not None and spec.loader is not None
    emitted = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(emitted)
    served = emitted.TritonPythonModel()
    served.initialize(
        {
            "model_config": json.dumps(
                {"max_batch_size": max_batch, "input": [{"name": "x"}], "output": [{"name": "y"}]}
            ),
            "model_repository": str(config.parent),
            "model_version": "1",
            "model_instance_kind": "CPU",
        }
    )
    return served


@pytest.mark.parametrize("max_batch", [8, 0])
def test_model_py_answers_each_request_with_its_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_batch: int
) -> None:
    served = emitted_model(tmp_path, monkeypatch, max_batch)
    requests = [{"x": np.full((rows, 2), rows, np.float32)} for rows in (1, 3, 2)]
    answers = [answer["y"].tolist() for answer in served.execute(requests)]
    assert answers == [[2.0], [6.0, 6.0, 6.0], [4.0, 4.0]]
    served.finalize()


@pytest.mark.parametrize("max_batch", [8, 0])
def test_model_py_tells_a_bad_request_its_error_and_answers_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_batch: int
) -> None:
    served = emitted_model(tmp_path, monkeypatch, max_batch)
    run = served.model.run

    def choosy(outputs: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        if np.isnan(feed["x"]).any():
            raise ValueError("not a number")
        return run(outputs, feed)  # type: ignore[no-any-return]

    monkeypatch.setattr(served.model, "run", choosy)
    requests = [{"x": np.full((2, 2), value, np.float32)} for value in (1, np.nan, 3)]
    first, second, third = served.execute(requests)
    assert (first["y"].tolist(), third["y"].tolist()) == ([2.0, 2.0], [6.0, 6.0])
    assert second == {"error": "ValueError: not a number"}


def test_model_py_refuses_arrays_that_the_server_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = emitted_model(tmp_path, monkeypatch, 8)
    mistaken = np.lib.stride_tricks.as_strided(np.ones((1, 2), np.float32), strides=(0, 0))
    with pytest.raises(RuntimeError, match="mistakes the arrays of NumPy"):
        served.execute([{"x": mistaken}])
