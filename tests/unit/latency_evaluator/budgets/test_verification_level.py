"""On what a verdict is reached: engines wherever they are, and ONNX Runtime on a GPU above that on a CPU."""

from __future__ import annotations

import json

import pytest

from tests.models.evaluation_models import onnx_model, saved_model, serving_folder
from tpu2gpu.hardware.cuda import Gpu
from tpu2gpu.latency_evaluator.budgets.verification_level import reached_level
from tpu2gpu.latency_evaluator.measure.model_process import ModelProcess
from tpu2gpu.running.local.tensorflow_runner import TensorFlowRunner
from tpu2gpu.running.opening import open_runner
from tpu2gpu.running.servers.addresses import parse_address
from tpu2gpu.running.servers.triton import Triton
from tpu2gpu.storage.promotion.verdicts import LEVELS

GPU = Gpu(0, "NVIDIA L4", "89", "12.4")


def level(path, described) -> str:
    model = ModelProcess(path, "candidate", is_reference=False, timeout_s=1.0)
    return reached_level(described, has_engine=model.has_engine, ran=True)[0]


@pytest.mark.parametrize(
    ("gpus", "device", "reached"),
    [
        ((GPU,), "GPU:0", "engine_executed"),
        ((), "CPU:0", "saved_model"),
        ((Gpu(0, "NVIDIA H100", "90", "12.4"),), "GPU:0", "saved_model"),  # TensorFlow's kernels take over there
        ((GPU,), "CPU:0", "saved_model"),
    ],
)
def test_engines_inside_a_saved_model_are_executed_on_the_gpu_that_they_are_for(
    tmp_path, monkeypatch, gpus, device, reached
):
    folder = serving_folder(tmp_path / "tf_trt", engine=False)
    saved_model(folder / "saved_model")
    plan = json.loads((folder / "plan.json").read_text())
    plan["parts"][0] |= {
        "saved_model": "saved_model",
        "onnx": None,
        "compute_capabilities": ["89"],
        "in_tensorflow_because": "its engines are operations of TensorFlow (TF-TRT)",
    }
    (folder / "plan.json").write_text(json.dumps({**plan, "backend": "tf_trt"}))
    monkeypatch.setattr("tpu2gpu.running.local.serving_runner.find_gpus", lambda: gpus)
    describe = TensorFlowRunner.describe
    monkeypatch.setattr(TensorFlowRunner, "describe", lambda runner: {**describe(runner), "device": device})
    assert level(folder, open_runner(folder, unverified=True).describe()) == reached


def test_onnx_runtime_on_a_gpu_is_more_than_on_a_cpu(tmp_path):
    model = onnx_model(tmp_path / "model.onnx")
    described = open_runner(model).describe()
    assert level(model, described) == "onnx_cpu"
    assert level(model, {**described, "provider": "CUDAExecutionProvider", "device": "GPU:0"}) == "onnx_gpu"
    served = {"kind": "server", "runs": "onnx", "device": "GPU at host:8001"}
    assert level(model, served) == "onnx_gpu"
    assert level(model, {**served, "runs": "python"}) == "onnx_cpu"  # its library may know no GPU
    assert LEVELS.index("onnx_cpu") < LEVELS.index("onnx_gpu") < LEVELS.index("engine_built")


@pytest.mark.parametrize(("back_end", "reached"), [("tensorrt", "engine_executed"), ("onnxruntime", "onnx_gpu")])
def test_an_ensemble_is_what_its_core_is(tmp_path, monkeypatch, back_end, reached):
    steps = [{"model_name": f"digits_{part}"} for part in ("pre", "core", "post")]
    configs = {
        "digits": {"platform": "ensemble", "ensemble_scheduling": {"step": steps}},
        "digits_core": {"backend": back_end, "instance_group": [{"kind": "KIND_GPU"}]},
        "digits_pre": {"backend": "python", "instance_group": [{"kind": "KIND_CPU"}]},
    }

    def ask(self, method, *arguments):
        if method == "get_model_config":
            return {"config": configs[arguments[0]]}
        return {"name": "triton", "version": "2.60", "platform": "ensemble"}

    monkeypatch.setattr("tpu2gpu.running.servers.triton._GrpcClient.ask", ask)
    described = Triton(parse_address("triton+grpc://host:8001/digits"), timeout_s=1.0).describe()
    assert described["device"] == "GPU at host:8001"
    assert level(onnx_model(tmp_path / "model.onnx"), described) == reached
