"""TensorFlow 1.15 itself makes training graphs anew, and runs what was imported from them.

Its interpreter is named by TENSORFLOW_1_15_PYTHON, or is a `python3.7` that has it; see `tests/models/tf115/make.py`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.models import tpu_training
from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.options import ImportOptions

_RUN = """
import sys, numpy as np, tensorflow.compat.v1 as tf
folder, given, target = sys.argv[1:]
with tf.Graph().as_default(), tf.Session() as session:
    signature = tf.saved_model.load(session, ["serve"], folder).signature_def["serving_default"]
    feeds = {signature.inputs["features"].name: np.load(given)["x"]}
    np.save(target, session.run(signature.outputs["logits"].name, feeds))
"""


@pytest.fixture(scope="module")
def interpreter() -> str:
    """A Python with TensorFlow 1.15."""
    named = os.environ.get("TENSORFLOW_1_15_PYTHON") or shutil.which("python3.7")
    if not named:
        pytest.skip("no Python 3.7 on this machine, and TENSORFLOW_1_15_PYTHON names none")
    ask_version = [named, "-c", "import tensorflow; print(tensorflow.__version__)"]
    version = subprocess.run(ask_version, capture_output=True, text=True, check=False).stdout.strip()
    if not version.startswith("1.15"):
        pytest.skip(f"{named} has no TensorFlow 1.15 ({version or 'none at all'})")
    return named


@pytest.fixture(scope="module")
def plain(interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training folder that TensorFlow 1.15 has just written."""
    folder = tmp_path_factory.mktemp("made")
    script = tpu_training.GENUINE / "make.py"
    subprocess.run([interpreter, str(script), str(folder), "plain"], check=True, capture_output=True)
    return tpu_training.genuine(folder / "plain", "plain", archives=folder)


def test_a_graph_made_anew_answers_as_tensorflow_1_15_does(plain: Path, tmp_path: Path) -> None:
    import_model(plain, tmp_path / "model")
    known = np.load(plain / "answers.npz")
    found = predict(tmp_path / "model", features=known["x"])["logits"]
    assert np.abs(found - known["logits"]).max() < 1e-6 * np.abs(known["logits"]).max()


def test_a_bfloat16_model_answers_in_tensorflow_1_15_with_its_very_bits(
    plain: Path, interpreter: str, tmp_path: Path
) -> None:
    import_model(plain, tmp_path / "model", ImportOptions(keep_bfloat16=True))
    script = [interpreter, "-c", _RUN, str(tmp_path / "model"), str(plain / "answers.npz"), str(tmp_path / "found.npy")]
    subprocess.run(script, check=True, capture_output=True)
    assert np.array_equal(np.load(tmp_path / "found.npy"), np.load(plain / "answers.npz")["logits_bfloat16"])
