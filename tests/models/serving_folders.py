"""Small serving folders of the converter's form, whose models answer with a constant: a whole one, a split one."""

from __future__ import annotations

from pathlib import Path

from tpu2gpu.storage.publishing import publish, write_json

_TENSOR = 'name: "{name}" data_type: TYPE_FP32 dims: [1]'
_CODE = '''"""Answers with a constant: what it takes, plus {value}."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            taken = pb_utils.get_input_tensor_by_name(request, "{takes}").as_numpy()
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("{gives}", taken + {value})]))
        return answers
'''
_STEP = """  step {{
    model_name: "{name}" model_version: -1
    input_map {{ key: "{takes}" value: "{takes}" }} output_map {{ key: "{gives}" value: "{gives}" }}
  }}
"""


def serving_folder(target: Path, value: float, *, name: str = "adder", split: bool = False) -> Path:
    """A folder in Triton's layout; a split model adds twice the value, in two parts."""
    with publish(target, about={"step": "convert", "run": "", "options": {"name": name}}) as staging:
        repository = staging.folder / "model_repository"
        if split:
            parts = ((f"{name}_core", "x", "middle"), (f"{name}_post", "middle", "y"))
            for part, takes, gives in parts:
                _write_model(repository, part, takes, gives, value)
            steps = "".join(_STEP.format(name=part, takes=takes, gives=gives) for part, takes, gives in parts)
            _write_config(repository / name, "x", "y", f'platform: "ensemble"\nensemble_scheduling {{\n{steps}}}\n')
            (repository / name / "1").mkdir()
            (repository / name / "1" / ".keep").touch()
        else:
            _write_model(repository, name, "x", "y", value)
        write_json(staging.folder / "plan.json", plan())
    return target


def version_folder(target: Path, layout: str, content: str = "a model") -> Path:
    """A folder in TensorFlow Serving's layout, or a plain one."""
    with publish(target, about={"step": "convert", "options": {"name": "adder"}}) as staging:
        home = staging.folder / "tf_serving" / "adder" / "1" if layout == "tf_serving" else staging.folder
        home.mkdir(parents=True, exist_ok=True)
        (home / "saved_model.pb").write_text(content)
        write_json(staging.folder / "plan.json", plan())
    return target


def plan() -> dict[str, object]:
    """What a model card tells of a plan."""
    spec = {"dtype": "float32", "shape": [None]}
    return {
        "inputs": [{"name": "x", **spec}],
        "outputs": [{"name": "y", **spec}],
        "dtype": "float32",
        "backend": "onnx",
        "verified_level": "onnx_cpu",
        "relative_error": 1e-6,
        "tolerance": 2e-3,
        "compared_on": "64 examples",
        "engine_coverage": 0.0,
    }


def _write_model(repository: Path, name: str, takes: str, gives: str, value: float) -> None:
    home = repository / name
    (home / "1").mkdir(parents=True)
    (home / "1" / "model.py").write_text(_CODE.format(value=value, takes=takes, gives=gives))
    _write_config(home, takes, gives, 'backend: "python"\n')


def _write_config(home: Path, takes: str, gives: str, rest: str) -> None:
    home.mkdir(parents=True, exist_ok=True)
    tensors = f"input {{ {_TENSOR.format(name=takes)} }}\noutput {{ {_TENSOR.format(name=gives)} }}\n"
    (home / "config.pbtxt").write_text(f'name: "{home.name}"\nmax_batch_size: 0\n{tensors}{rest}')
