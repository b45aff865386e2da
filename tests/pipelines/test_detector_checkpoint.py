"""A TPU training checkpoint of a detector of TensorFlow 1.15 goes in by its path, and comes out promoted.

Infeed, training loop, bfloat16_scope, momentum slots and a batch of 4 for each core are all in it; see
`tests/models/tf115/make_detector.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import tpu_training
from tpu2gpu.running.loading import load
from tpu2gpu.storage.publishing import verify_model

PREFIX = "model.ckpt-700"
ENOUGH = 30  # examples; fewer prove too little
COMMANDS = """
import trained/model.ckpt-700 imported --output logits=concat --output codes=concat_1
cast imported cast --to float32
freeze cast frozen
convert frozen serving --backend onnx --examples data/eval --name detector
evaluate imported serving --examples data/eval --out verdict --requests 300 --warm-up-requests 20 --max-p99-ms 60000
promote serving promoted --evaluation verdict --settle-s 0
"""
SETTINGS = """
name: era-detector
root: runs
checkpoint: trained/model.ckpt-700
data_uri: data
import: {output: [logits=concat, codes=concat_1]}
cast: {to: float32}
convert: {backend: onnx, name: detector}
evaluate: {requests: 300, warm_up_requests: 20, max_p99_ms: 60000}
"""

Array = np.ndarray[Any, Any]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with the training folder `trained`, and `data` with examples of its input."""
    tpu_training.genuine(tmp_path / "trained", "detector")
    for split in ("train", "eval"):
        write_examples(tmp_path / "data" / f"Split-{split}" / "part.tfrecord")
    (tmp_path / "data" / "eval").symlink_to("Split-eval")
    return tmp_path


def write_examples(path: Path) -> None:
    """Rectangles in the colours that the detector knows, on grey."""
    import tensorflow as tf

    path.parent.mkdir(parents=True)
    random = np.random.default_rng(3)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in range(ENOUGH):
            pixels = np.full((64, 64, 3), random.integers(80, 160), np.uint8)
            (y, x), (height, width) = random.integers(0, 36, 2), random.integers(14, 28, 2)
            pixels[y : y + height, x : x + width] = np.eye(3)[number % 3] * 200 + 25
            image = tf.train.FloatList(value=tpu_training.normalised(pixels).ravel())
            features = tf.train.Features(feature={"features": tf.train.Feature(float_list=image)})
            writer.write(tf.train.Example(features=features).SerializeToString())


def tpu2gpu(line: str, folder: Path) -> str:
    """Run a command; it must succeed."""
    command = [str(Path(sys.executable).with_name("tpu2gpu")), *line.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, f"tpu2gpu {line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def check_promoted(version: Path, trained: Path) -> None:
    """Compare a promoted version with TensorFlow 1.15's own answers to 1, 3 and 5 images."""
    known = np.load(trained / "answers.npz")
    images = tpu_training.normalised(known["pixels"])
    model = load(version)
    for count in (1, 3, 5):
        found = model.run({"features": images[:count]})
        for name in ("logits", "codes"):
            error = np.abs(found[name] - known[name][:count]).max()
            assert error < 2e-6 * np.abs(known[name]).max(), (name, count)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_by_the_commands(workplace: Path) -> None:
    for line in COMMANDS.strip().splitlines():
        tpu2gpu(line, workplace)
    (version,) = (workplace / "promoted" / "detector").glob("[0-9]*")
    verify_model(version)
    check_promoted(version, workplace / "trained")
    report = json.loads((workplace / "imported" / "report.json").read_text())
    assert report["batch"]["trained_with"] == 4


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_by_the_pipeline_with_the_path_in_its_settings(workplace: Path) -> None:
    (workplace / "settings.yaml").write_text(SETTINGS)
    tpu2gpu("run --settings settings.yaml", workplace)
    (version,) = (workplace / "runs" / "promoted" / "detector").glob("[0-9]*")
    check_promoted(version, workplace / "trained")
