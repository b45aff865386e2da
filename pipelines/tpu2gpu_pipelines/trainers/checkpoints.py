"""Checkpoints of a training under way: what a preempted machine has done is not done again.

{checkpoint_root}/{digest of settings, code and data}/step-{n}.index and .data-*

The root is a folder or URI outside the step's own outputs, which a launcher uploads only on success. The digest keeps
a changed training from going on where another one stopped; what is there goes away when the training is done.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tpu2gpu.errors import UsageError

_KEPT = 2  # one more than needed: the newest is the one that a preemption may meet half-written
_CHUNK = 1 << 20


class TrainingCheckpoints:
    """Saves a compiled Keras model and its optimizer, and brings them back.

    Args:
        folder: Where; a folder, or a URI of a kind that TensorFlow writes to.
        model: The model. Its optimizer counts the steps.

    Raises:
        UsageError: TensorFlow cannot write there.
    """

    def __init__(self, folder: str, model: Any) -> None:
        import tensorflow as tf

        self._folder, self._model = folder, model
        model.optimizer.build(model.trainable_variables)
        # By name what Keras lets TensorFlow see, and the rest of its state: where dropout's random numbers are.
        state = [variable.value for variable in model.variables]
        # This process writes it all: the hosts of a TPU may see no folder of ours.
        self._options = tf.train.CheckpointOptions(experimental_io_device="/job:localhost")
        self._checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, state=state)
        try:
            tf.io.gfile.makedirs(folder)
            self._manager = tf.train.CheckpointManager(
                self._checkpoint, folder, max_to_keep=_KEPT, checkpoint_name="step"
            )
        except tf.errors.OpError as error:
            raise UsageError(
                f"training.checkpoint_root: {folder} cannot be written ({error.message})",
                hint="give a folder on a volume, or a gs:// URI",
            ) from error

    def restore(self) -> int:
        """Go back to the newest checkpoint.

        Returns:
            The steps that are done: 0 where there is none.
        """
        newest = self._manager.latest_checkpoint
        if newest is None:
            return 0
        self._checkpoint.restore(newest, options=self._options).assert_existing_objects_matched()
        done = self._steps()
        logging.getLogger("tpu2gpu").info("training goes on after step %d, from %s", done, newest)
        return done

    def save(self) -> None:
        """Save the present step; a checkpoint is there whole or not at all."""
        self._manager.save(checkpoint_number=self._steps(), options=self._options)

    def _steps(self) -> int:
        """Count the steps that are done; of a variable on several devices Python makes no int."""
        import keras

        return int(keras.ops.convert_to_numpy(self._model.optimizer.iterations))

    def remove(self) -> None:
        """Take the checkpoints away: the training is done."""
        import tensorflow as tf

        tf.io.gfile.rmtree(self._folder)


def remaining_epochs(done: int, steps: int, length: int) -> Iterator[tuple[int, range, int]]:
    """Return what is left to do: the first step, the epochs' numbers and their length; the last may be shorter."""
    whole = steps // length
    if done // length < whole:
        yield done, range(done // length, whole), length
    if done < steps and steps % length:
        yield whole * length, range(whole, whole + 1), steps % length


def training_digest(config: Mapping[str, Any], steps: int, files: Sequence[str]) -> str:
    """SHA-256 of everything that decides how a training goes.

    Args:
        config: The training's settings, with the digest of its code and the files that it depends on.
        steps: Batches in all.
        files: Patterns of the training data's files; their content counts, and not where they are, because a step that
            runs again may find them elsewhere.
    """
    import keras
    import tensorflow as tf

    libraries = {"tensorflow": tf.__version__, "keras": keras.__version__}  # of the machine that trains
    decisive = {key: value for key, value in config.items() if key != "checkpoint_root"}
    digest = hashlib.sha256(json.dumps([decisive, steps, libraries], sort_keys=True).encode())
    for path in sorted(path for pattern in files for path in tf.io.gfile.glob(pattern)):
        with tf.io.gfile.GFile(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
