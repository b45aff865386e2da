"""The plan of a serving folder: one form in Python and in JSON; what is wrong with it is named."""

from __future__ import annotations

import json

import pytest

from tests.models.evaluation_models import serving_folder
from tpu2gpu.errors import SourceError
from tpu2gpu.running.serving_plan import PLAN, BoundaryTensor, Engine, Plan, read_plan


@pytest.fixture
def folder(tmp_path):
    return serving_folder(tmp_path / "serving", engine=True)


def test_a_plan_survives_json(folder):
    plan = read_plan(folder)
    assert plan.core.engine == Engine(
        file="engines/model.engine", library="tensorrt_rtx", compute_capabilities=("0.0",)
    )
    data = json.loads((folder / PLAN).read_text())
    assert data["parts"][0]["engine"] == "engines/model.engine"
    assert Plan.from_json(data) == plan
    tensor = BoundaryTensor(name="w", tensor="w:0", bytes_per_example=4, producer="pre", consumers=("core", "post"))
    assert tensor.to_json()["to"] == ["core", "post"]
    assert BoundaryTensor.from_json(tensor.to_json()) == tensor


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (lambda plan: plan.pop("signature"), "plan.signature: missing"),
        (lambda plan: plan.update(tolerance="small"), "plan.tolerance: a number is wanted, not 'small'"),
        (lambda plan: plan.update(parts=None), "plan.parts: a list is wanted, not None"),
        (lambda plan: plan["parts"][0].pop("onnx_names"), r"plan.parts\[0\].onnx_names: missing"),
        (lambda plan: plan["parts"][0]["inputs"].append(3), r"plan.parts\[0\].inputs\[1\]: a mapping is wanted, not 3"),
        (lambda plan: plan["parts"][0]["onnx_names"]["inputs"].update(x=1), r"onnx_names.inputs.x: text is wanted"),
        (lambda plan: plan["inputs"][0].update(shape=["?"]), r"plan.inputs\[0\].shape\[0\]: an integer is wanted"),
        (lambda plan: plan["parts"][0].update(name="middle"), "plan.parts: none is named core"),
        (lambda plan: plan["parts"][0].update(onnx=None), r"plan.parts\[0\]: neither onnx nor saved_model"),
        (lambda plan: plan["parts"][0].update(saved_model="../other"), r"saved_model: '../other' is not a path"),
        (lambda plan: plan["parts"][0].update(onnx="/tmp/other.onnx"), r"onnx: '/tmp/other.onnx' is not a path"),
        (lambda plan: plan["parts"][0].update(engine_library="trt"), "engine_library: trt is none of tensorrt_rtx"),
    ],
)
def test_a_damaged_entry_is_named(folder, change, because):
    plan = json.loads((folder / PLAN).read_text())
    change(plan)
    (folder / PLAN).write_text(json.dumps(plan))
    with pytest.raises(SourceError, match=rf"plan.json: damaged \(.*{because}"):
        read_plan(folder)
