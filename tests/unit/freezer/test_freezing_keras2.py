"""SavedModels of Keras 2, frozen, un-frozen and trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import keras2, zoo
from tests.models.predictions import predict
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.unfreezer.unfreezing import list_weights, unfreeze_model

Built = Callable[..., Path]
MODELS: dict[str, tuple[Callable[..., Path], Callable[[int], dict[str, Any]]]] = {
    "residual": (keras2.residual, lambda count: {"image": zoo.photographs(count, 16)}),
    "recurrent": (keras2.recurrent, lambda count: {"sequence": zoo.sequences(count)}),
}


@pytest.mark.parametrize(
    "name", [pytest.param(it, marks=pytest.mark.slow if it == "recurrent" else ()) for it in MODELS]
)
def test_a_keras_2_model_is_frozen_and_unfrozen_bit_for_bit(name: str, built: Built, tmp_path: Path) -> None:
    builder, feeds = MODELS[name]
    source = built(builder)
    freeze_model(source, tmp_path / "frozen")
    unfreeze_model(tmp_path / "frozen", tmp_path / "variables")
    freeze_model(tmp_path / "variables", tmp_path / "again")
    (output, wanted), *others = predict(source, plainly=True, **feeds(4)).items()
    assert not others
    assert np.ptp(wanted, axis=0).max() > 1e-3  # it does tell examples apart
    for folder in ("frozen", "again"):
        assert np.array_equal(predict(tmp_path / folder, plainly=True, **feeds(4))[output], wanted)


@pytest.mark.parametrize("name", MODELS)
def test_the_weights_of_a_keras_2_model_are_found_without_their_names(name: str, built: Built, tmp_path: Path) -> None:
    source = built(MODELS[name][0])
    freeze_model(source, tmp_path / "frozen")
    found = {weight["node"]: weight["trainable"] for weight in list_weights(tmp_path / "frozen")}
    variables = read_saved_model(source).variables
    assert found.keys() == variables.keys()
    statistics = {name for name, trainable in found.items() if not trainable}
    assert statistics == {name for name in variables if "moving_" in name}


def test_three_steps_of_training_lower_the_loss_of_an_unfrozen_keras_2_model(built: Built, tmp_path: Path) -> None:
    import tensorflow as tf

    freeze_model(built(keras2.residual), tmp_path / "frozen")
    unfreeze_model(tmp_path / "frozen", tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    trainable = [variable for variable in loaded.variables if variable.trainable]
    image, labels = tf.constant(zoo.photographs(16, 16)), tf.constant(np.arange(16) % 10)
    losses = []
    for _ in range(4):
        with tf.GradientTape() as tape:
            logits = loaded.signatures["serving_default"](image=image)["logits"]
            losses.append(tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)))
        for variable, gradient in zip(trainable, tape.gradient(losses[-1], trainable), strict=True):
            variable.assign_sub(0.05 * gradient)  # a missing gradient fails here
    assert losses == sorted(losses, reverse=True)
