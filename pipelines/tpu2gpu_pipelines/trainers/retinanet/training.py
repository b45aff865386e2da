"""Trains the detector: on TPU where one answers, on what there is otherwise.

TFX's stock Trainer calls `run_fn`. What it found stands in `training.json` beside the TensorBoard log. With a
`checkpoint_root` a training that was broken off goes on from its newest checkpoint, and comes to the same model.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tpu2gpu.latency_evaluator.accuracy.average_precision import AveragePrecision, match_ground_truth
from tpu2gpu.running.comparison.detections import Detections
from tpu2gpu.running.examples.box_labels import BoxLabels
from tpu2gpu.storage.publishing import write_json
from tpu2gpu_pipelines.trainers.checkpoints import TrainingCheckpoints, remaining_epochs, training_digest
from tpu2gpu_pipelines.trainers.policies import dtype_policy
from tpu2gpu_pipelines.trainers.retinanet.configuration import RetinaNetConfig, make_config
from tpu2gpu_pipelines.trainers.retinanet.data import read_batches, read_labelled
from tpu2gpu_pipelines.trainers.retinanet.estimator_export import export_like_estimator
from tpu2gpu_pipelines.trainers.retinanet.network import BOXES, CLASSES, build_network
from tpu2gpu_pipelines.trainers.retinanet.serving import detect, export_model
from tpu2gpu_pipelines.trainers.strategies import choose_strategy, compiles_better

SUMMARY = "training.json"
ESTIMATOR_EXPORT = "Estimator"
_POLICY = "mixed_bfloat16"
_WARM_UP = 0.1  # of all steps; the focal loss of an untrained network has steep places
_CLIP_NORM = 10.0


def run_fn(fn_args: Any) -> None:
    """Train, measure on the held-out images, and export.

    Args:
        fn_args: TFX's `FnArgs`: `train_files`, `eval_files` and `train_steps`, where to write, and in `custom_config`
            the `batch_size`, `learning_rate`, `seed`, `checkpoint_root`, `checkpoint_steps`, and in `config` the
            `size`, the number of `classes`, and `estimator_export`: whether to write a second export, in the form of
            TensorFlow 1's Estimator, to `Estimator` beside the first.
    """
    import keras

    told, steps = fn_args.custom_config, fn_args.train_steps
    config = make_config(told["config"])
    keras.utils.set_random_seed(told["seed"])
    strategy = choose_strategy()
    started = time.monotonic()
    with dtype_policy(_POLICY):
        with strategy.scope():
            model = build_network(config)
            compile_network(model, steps, told["learning_rate"], jit_compile=compiles_better(strategy))
            checkpoints, done = None, 0
            if told["checkpoint_root"]:
                folder = f"{told['checkpoint_root']}/{training_digest(told, steps, fn_args.train_files)}"
                checkpoints = TrainingCheckpoints(folder, model)
                done = checkpoints.restore()
        callbacks = [keras.callbacks.TensorBoard(fn_args.model_run_dir, write_graph=False)]
        if checkpoints:
            callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: checkpoints.save()))
        for first, epochs, length in remaining_epochs(done, steps, told["checkpoint_steps"]):
            model.fit(
                read_batches(fn_args.train_files, told["batch_size"], config, shuffle_seed=told["seed"], skip=first),
                steps_per_epoch=length,
                initial_epoch=epochs.start,
                epochs=epochs.stop,
                callbacks=callbacks,
                verbose=2,
            )
        export_model(model, config, fn_args.serving_model_dir)
        if config.estimator_export:
            export_like_estimator(model, config, str(Path(fn_args.serving_model_dir).with_name(ESTIMATOR_EXPORT)))
        precision = held_out_precision(model, config, fn_args.eval_files, told["batch_size"])
    summary = {
        "held_out_mean_average_precision": precision,
        "parameters": model.count_params(),
        "steps": steps,
        "resumed_after_step": done,
        "train_s": round(time.monotonic() - started, 1),
        "strategy": type(strategy).__name__,
        "replicas": strategy.num_replicas_in_sync,
        "policy": _POLICY,
        "size": config.size,
    }
    write_json(Path(fn_args.model_run_dir) / SUMMARY, summary)
    if checkpoints:
        checkpoints.remove()


def compile_network(model: Any, steps: int, learning_rate: float, *, jit_compile: bool) -> None:
    """Give the network its losses and its optimizer: Adam, warmed up, then down a cosine to nothing."""
    import keras

    from tpu2gpu_pipelines.trainers.retinanet.losses import BoxLoss, FocalLoss

    warm_up = max(1, round(steps * _WARM_UP))
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate / 10, max(1, steps - warm_up), warmup_target=learning_rate, warmup_steps=warm_up
    )
    model.compile(
        optimizer=keras.optimizers.Adam(schedule, global_clipnorm=_CLIP_NORM),
        loss={CLASSES: FocalLoss(), BOXES: BoxLoss()},
        jit_compile=jit_compile,
    )


def held_out_precision(model: Any, config: RetinaNetConfig, files: Sequence[str], batch_size: int) -> float:
    """Compute COCO's mean average precision on held-out images, through the serving function."""
    import tensorflow as tf

    serve = tf.function(
        lambda image_bytes: detect(model, config, image_bytes), input_signature=[tf.TensorSpec([None], tf.string)]
    )
    total = AveragePrecision()
    for first, (image_bytes, labels) in enumerate(read_labelled(files, batch_size)):
        found = {name: it.numpy() for name, it in serve(tf.constant(image_bytes)).items()}
        detections = [
            Detections(found["boxes"][row, :count], found["scores"][row, :count], found["classes"][row, :count])
            for row, count in enumerate(found["count"])
        ]
        truth = [BoxLabels(np.asarray(boxes, np.float64), classes) for boxes, classes in labels]
        total += match_ground_truth(detections, truth, first_example=first * batch_size)
    return total.mean_average_precision
