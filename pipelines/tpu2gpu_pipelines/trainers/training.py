"""A training from its first step, or its newest checkpoint, to its export and `training.json`, whatever the network.

With a `checkpoint_root` a training that was broken off goes on from its newest checkpoint, and comes to the same model.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tpu2gpu.storage.publishing import write_json
from tpu2gpu_pipelines.trainers.checkpoints import TrainingCheckpoints, remaining_epochs, training_digest
from tpu2gpu_pipelines.trainers.policies import dtype_policy
from tpu2gpu_pipelines.trainers.strategies import choose_strategy, compiles_better

_SUMMARY = "training.json"
_POLICY = "mixed_bfloat16"


class Training(ABC):
    """What a network brings to its training.

    Args:
        fn_args: TFX's `FnArgs`: `train_files`, `eval_files` and `train_steps`, where to write, and in `custom_config`
            the `batch_size`, `learning_rate`, `seed`, `checkpoint_root` and `checkpoint_steps`.
    """

    def __init__(self, fn_args: Any) -> None:
        self.fn_args = fn_args
        self.config: Mapping[str, Any] = fn_args.custom_config
        self.steps: int = fn_args.train_steps

    @abstractmethod
    def compiled_model(self, *, jit_compile: bool) -> Any:
        """Build the model, and give it its losses and its optimizer."""

    @abstractmethod
    def batches(self, first: int) -> Any:
        """Read batches without end, from one step on."""

    def validation(self) -> Mapping[str, Any]:
        """Return arguments of Keras's `fit` with which to validate after each epoch; by default none."""
        return {}

    @abstractmethod
    def conclude(self, model: Any) -> Mapping[str, Any]:
        """Export the trained model, and return what was found on held-out examples."""

    def run(self) -> None:
        """Train, conclude, and write what was found beside the TensorBoard log."""
        import keras

        config, steps = self.config, self.steps
        keras.utils.set_random_seed(config["seed"])
        strategy = choose_strategy()
        started = time.monotonic()
        with dtype_policy(_POLICY):
            with strategy.scope():
                model = self.compiled_model(jit_compile=compiles_better(strategy))
                checkpoints, done = None, 0
                if config["checkpoint_root"]:
                    folder = f"{config['checkpoint_root']}/{training_digest(config, steps, self.fn_args.train_files)}"
                    checkpoints = TrainingCheckpoints(folder, model)
                    done = checkpoints.restore()
            validation = self.validation()
            callbacks = [keras.callbacks.TensorBoard(self.fn_args.model_run_dir, write_graph=False)]
            if checkpoints:
                callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: checkpoints.save()))
            for first, epochs, length in remaining_epochs(done, steps, config["checkpoint_steps"]):
                model.fit(
                    self.batches(first),
                    steps_per_epoch=length,
                    initial_epoch=epochs.start,
                    epochs=epochs.stop,
                    callbacks=callbacks,
                    verbose=2,
                    **validation,
                )
            found = self.conclude(model)
        summary = {
            **found,
            "parameters": model.count_params(),
            "steps": steps,
            "resumed_after_step": done,
            "train_s": round(time.monotonic() - started, 1),
            "strategy": type(strategy).__name__,
            "replicas": strategy.num_replicas_in_sync,
            "policy": _POLICY,
        }
        write_json(Path(self.fn_args.model_run_dir) / _SUMMARY, summary)
        if checkpoints:
            checkpoints.remove()
