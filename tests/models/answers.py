"""What a SavedModel answers, as TensorFlow runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def images(count: int = 16) -> np.ndarray[Any, Any]:
    """Random images [count, 8, 8, 1]."""
    return np.random.default_rng(5).random((count, 8, 8, 1), dtype=np.float32)


def ask(folder: Path, *, plainly: bool = False, **feeds: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Runs a SavedModel's `serving_default` through TensorFlow's own loader.

    Args:
        folder: The SavedModel.
        plainly: Without Grappler, which folds constants and so rounds elsewhere.
        feeds: Inputs by name; a single unnamed one may be called `only`.
    """
    import tensorflow as tf

    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": plainly})
    try:
        loaded = tf.saved_model.load(str(folder))
        signature = loaded.signatures["serving_default"]
        names = list(signature.structured_input_signature[1])
        if "only" in feeds:
            feeds = {names[0]: feeds["only"]}
        answers = signature(**{name: tf.constant(value) for name, value in feeds.items()})
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False, **before})
    return {name: value.numpy() for name, value in answers.items()}
