"""cast, convert and evaluate take the same examples, with the same flags."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tpu2gpu
from tpu2gpu.cli.main import main

_FLAGS = ["--scale", "unit", "--resize", "crop"]
_QUICK = ["--requests", "20", "--warm-up-requests", "2", "--block-requests", "10", "--max-requests", "20"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of images, 8x8 in colour."""
    import keras

    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("model")
    given = keras.Input((8, 8, 3), name="image")
    convolved = keras.layers.Conv2D(4, 3, activation="relu")(given)
    scores = keras.layers.Dense(3, name="scores")(keras.layers.GlobalAveragePooling2D()(convolved))
    keras.Model(given, scores).export(folder / "model", verbose=False)
    return folder / "model"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tensorflow as tf

    rng, folder = np.random.default_rng(3), tmp_path_factory.mktemp("images")
    for number in range(24):
        path = folder / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tf.io.encode_png(rng.integers(0, 256, (11, 9, 3), np.uint8)).numpy())
    return folder


def test_a_folder_of_images_goes_into_every_step(
    model: Path, images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    examples = ["--examples", str(images), *_FLAGS]
    half, serving, verdict = tmp_path / "half", tmp_path / "serving", tmp_path / "verdict"
    assert main(["cast", str(model), str(half), *examples]) == 0
    assert json.loads((half / "report.json").read_text())["measured"]["example_notes"][0].startswith("classes")
    assert main(["convert", str(model), str(serving), "--backend", "onnx", *examples]) == 0
    code = main(["evaluate", str(model), str(serving), "--out", str(verdict), "--allow-degenerate", *_QUICK, *examples])
    assert code in (0, 1), capfd.readouterr().err
    assert "cropped to its size, pixels from 0 to 1" in (verdict / "report.html").read_text()
    assert json.loads((verdict / "report.json").read_text())["measurement"]["labelled"]


def test_python_hands_its_examples_over(model: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(5).random((16, 8, 8, 3), np.float32)
    rows = [{"image": it, "label": number % 3} for number, it in enumerate(pixels)]
    cast = tpu2gpu.cast_model(model, tmp_path / "half", examples=rows)
    assert cast.report["measured"]["origin"] == "16 examples"
    assert "/tmp" not in (tmp_path / "half" / "manifest.json").read_text()
    options = tpu2gpu.ConvertOptions(backend="onnx", layout="plain")
    converted = tpu2gpu.convert_model(model, tmp_path / "serving", options, examples={"image": pixels})
    assert converted.relative_error < 1e-3
    options = tpu2gpu.EvaluateOptions(
        requests=20, max_requests=20, warm_up_requests=2, block_requests=10, allow_degenerate=True
    )
    result = tpu2gpu.evaluate_model(model, [tmp_path / "serving"], rows, tmp_path / "verdict", options)
    assert result.candidate.compared == 16
