"""A child imports TensorFlow without what it does not need of it, and has all of that when it asks."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tpu2gpu.process.judging import JUDGE_ENVIRONMENT
from tpu2gpu.process.lean_tensorflow import LEFT_OUT, import_lean_tensorflow
from tpu2gpu.process.worker import run_in_child

HERE = "tests.unit.process.test_lean_tensorflow"
_TENSORFLOW = """
import importlib.util
try:
    import pandas
except ImportError as error:
    pandas = str(error)
KERAS = importlib.util.find_spec("keras").origin
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Make a TensorFlow that tries to import others."""
    for name, text in (("tensorflow", _TENSORFLOW), ("keras", ""), ("pandas", "ANSWER = 42")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    (tmp_path / "keras" / "first_use.py").write_text("")
    return tmp_path


def run(packages: Path, text: str) -> str:
    """Run a script, and return what it printed last."""
    lean = "from tpu2gpu.process.lean_tensorflow import import_lean_tensorflow; import_lean_tensorflow()\n"
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    done = subprocess.run(
        [sys.executable, "-c", lean + text], check=False, env=environment, capture_output=True, text=True
    )
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def test_what_tensorflow_tries_to_import_looks_absent(packages: Path) -> None:
    assert run(packages, "import tensorflow; print(tensorflow.pandas)") == "No module named 'pandas': left out"


def test_its_place_is_known(packages: Path) -> None:
    assert run(packages, "import tensorflow; print(tensorflow.KERAS)") == str(packages / "keras" / "__init__.py")


def test_whoever_asks_afterwards_gets_it(packages: Path) -> None:
    assert run(packages, "import tensorflow, pandas; print(pandas.ANSWER)") == "42"


def test_keras_that_imports_tensorflow_goes_with_everything(packages: Path) -> None:
    (packages / "keras" / "__init__.py").write_text("import tensorflow")
    assert run(packages, "import keras; print(keras.tensorflow.pandas.ANSWER)") == "42"


def test_a_failed_import_leaves_nothing_absent(packages: Path) -> None:
    (packages / "tensorflow" / "__init__.py").write_text("import keras.first_use")
    text = "try:\n    import tensorflow\nexcept ImportError:\n    import keras, pandas\nprint(pandas.ANSWER)"
    assert run(packages, text) == "42"


@pytest.mark.parametrize("preload", [[], ["tensorflow"]], ids=["started", "forked"])
def test_a_child_imports_it_without(preload: list[str]) -> None:
    found = run_in_child(f"{HERE}:imported", {}, name="child", environment=JUDGE_ENVIRONMENT, preload=preload)[0]
    assert found == {"imported": [], "relu": [0.0, 2.0]}


def imported() -> dict[str, Any]:
    """Return what stands beside TensorFlow in this process, and what Keras computes then."""
    tf = importlib.import_module("tensorflow")
    there = sorted(LEFT_OUT & sys.modules.keys())
    return {"imported": there, "relu": tf.keras.activations.relu(tf.constant([-1.0, 2.0])).numpy().tolist()}


def test_nothing_is_left_out_where_nobody_asked_for_that() -> None:
    before = list(sys.meta_path)
    import_lean_tensorflow()
    try:
        assert importlib.util.find_spec("pandas") is not None
    finally:
        sys.meta_path[:] = before
