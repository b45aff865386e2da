"""A training whose machine was taken away goes on where it was, and comes to the model that it would have come to."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpu2gpu.errors import UsageError
from tpu2gpu_pipelines.datasets import write_digits
from tpu2gpu_pipelines.trainers.checkpoints import TrainingCheckpoints, training_digest
from tpu2gpu_pipelines.trainers.digits import read_images

SCRIPT = Path(__file__).with_name("train_digits.py")
STEPS, EVERY = 46, 10  # the last epoch is a shorter one
PATIENCE_S = 500


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder)
    return folder


def start(data: Path, output: Path, checkpoint_root: Path | str) -> subprocess.Popen[bytes]:
    """A training in its own process, on one thread: so the sums do not depend on how many are free."""
    output.mkdir()
    config = {
        "batch_size": 32,
        "learning_rate": 0.002,
        "seed": 7,
        "checkpoint_root": str(checkpoint_root),
        "checkpoint_steps": EVERY,
    }
    arguments = {
        "train_files": [str(data / "Split-train" / "*")],
        "eval_files": [str(data / "Split-eval" / "*")],
        "train_steps": STEPS,
        "model_run_dir": str(output / "run"),
        "serving_model_dir": str(output / "model"),
        "custom_config": config,
    }
    threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), json.dumps(arguments)],
        env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=(output / "log").open("wb"),
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen[bytes], output: Path) -> dict[str, Any]:
    """What the training says of itself."""
    assert process.wait(timeout=PATIENCE_S) == 0, (output / "log").read_text()
    summary: dict[str, Any] = json.loads((output / "run" / "training.json").read_text())
    return summary


def wait_for_checkpoint(step: int, process: subprocess.Popen[bytes], checkpoint_root: Path) -> None:
    """Returns as soon as a step's checkpoint stands, in the midst of the training."""
    deadline = time.monotonic() + PATIENCE_S
    while not list(checkpoint_root.glob(f"*/step-{step}.index")):
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def weights(model: Path) -> list[str]:
    """The digests of a SavedModel's variables, sorted: Keras numbers them as it happens to find them."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(model / "variables" / "variables"))
    names = [name for name in reader.get_variable_to_shape_map() if "VARIABLE_VALUE" in name]
    return sorted(hashlib.sha256(reader.get_tensor(name).tobytes()).hexdigest() for name in names)


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of a training that nobody disturbed; it trained without checkpoints."""
    output = tmp_path_factory.mktemp("whole") / "output"
    assert finish(start(data, output, ""), output)["resumed_after_step"] == 0
    return output


# kubeflow/test_preemption.py, which is slow, does the same to the trainer's pod.
@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_training_that_is_killed_goes_on_and_comes_to_the_same_model(
    data: Path, uninterrupted: Path, tmp_path: Path, how: signal.Signals
) -> None:
    root, first, second = tmp_path / "checkpoints", tmp_path / "first", tmp_path / "second"
    process = start(data, first, root)
    wait_for_checkpoint(2 * EVERY, process, root)
    process.send_signal(how)
    assert process.wait(timeout=PATIENCE_S) == -how
    assert not (first / "model").exists()
    resumed = finish(start(data, second, root), second)
    assert resumed["resumed_after_step"] in (EVERY, 2 * EVERY)  # the index stands before the checkpoint counts
    whole = json.loads((uninterrupted / "run" / "training.json").read_text())
    assert resumed["held_out_loss"] == whole["held_out_loss"]
    assert weights(second / "model") == weights(uninterrupted / "model")
    assert not list(root.iterdir())  # the training is done


def test_batches_after_skipped_ones_are_what_they_would_have_been(data: Path) -> None:
    files = [str(data / "Split-train" / "*")]
    all_of_them = list(read_images(files, 32, shuffle_seed=7).take(60).as_numpy_iterator())
    for first in (1, 50):  # in the first pass over the images, and in the second
        images, labels = next(read_images(files, 32, shuffle_seed=7, skip=first).as_numpy_iterator())
        np.testing.assert_array_equal(images, all_of_them[first][0])
        np.testing.assert_array_equal(labels, all_of_them[first][1])
    assert not np.array_equal(all_of_them[0][0], all_of_them[1][0])


def test_only_the_very_same_training_goes_on_where_another_stopped(data: Path, tmp_path: Path) -> None:
    config = {"seed": 7, "source_sha256": "0" * 64, "checkpoint_root": "here"}
    files = [str(data / "Split-train" / "*")]
    same = training_digest(config, 10, files)
    moved = tmp_path / "moved"
    moved.write_bytes(next((data / "Split-train").iterdir()).read_bytes())
    assert training_digest({**config, "checkpoint_root": "there"}, 10, [str(moved)]) == same
    others = [
        training_digest({**config, "seed": 8}, 10, files),
        training_digest({**config, "source_sha256": "1" * 64}, 10, files),
        training_digest(config, 11, files),
        training_digest(config, 10, [str(data / "Split-eval" / "*")]),
    ]
    assert len({same, *others}) == 5


@pytest.mark.parametrize("folder", ["/dev/null/checkpoints", "nosuch://bucket/checkpoints"])
def test_a_root_that_cannot_be_written_is_named_before_training_begins(folder: str) -> None:
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(UsageError, match=f"training.checkpoint_root: {folder} cannot be written"):
        TrainingCheckpoints(folder, model)


def test_steps_are_counted_where_a_strategy_keeps_the_variables(tmp_path: Path) -> None:
    """A TPU's do not become an int by themselves, and those of other hosts are written by this one."""
    import keras
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        checkpoints = TrainingCheckpoints(str(tmp_path), model)
        assert checkpoints.restore() == 0
    model.fit(np.ones((8, 2)), np.ones((8, 1)), batch_size=4, verbose=0)
    checkpoints.save()
    assert (tmp_path / "step-2.index").is_file()
    with strategy.scope():
        assert checkpoints.restore() == 2
