"""Trains the detector: on TPU where one answers, on what there is otherwise.

TFX's stock Trainer calls `run_fn`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tpu2gpu.latency_evaluator.accuracy.average_precision import AveragePrecision, match_ground_truth
from tpu2gpu.running.comparison.detections import Detections
from tpu2gpu.running.examples.box_labels import BoxLabels
from tpu2gpu_pipelines.trainers.retinanet.configuration import RetinaNetConfig, make_config
from tpu2gpu_pipelines.trainers.retinanet.data import read_batches, read_labelled
from tpu2gpu_pipelines.trainers.retinanet.estimator_export import export_like_estimator
from tpu2gpu_pipelines.trainers.retinanet.network import BOXES, CLASSES, build_network
from tpu2gpu_pipelines.trainers.retinanet.serving import detect, export_model
from tpu2gpu_pipelines.trainers.training import Training

_ESTIMATOR_EXPORT = "Estimator"
_WARM_UP = 0.1  # of all steps; the focal loss of an untrained network has steep places
_CLIP_NORM = 10.0


def run_fn(fn_args: Any) -> None:
    """Train, measure on the held-out images, and export.

    Args:
        fn_args: Training's, and in `custom_config["config"]` the `size`, the number of `classes`, and
            `estimator_export`: whether to write a second export, in the form of TensorFlow 1's Estimator, to
            `Estimator` beside the first.
    """
    _DetectorTraining(fn_args).run()


class _DetectorTraining(Training):
    def __init__(self, fn_args: Any) -> None:
        super().__init__(fn_args)
        self.network = make_config(self.config["config"])

    def compiled_model(self, *, jit_compile: bool) -> Any:
        model = build_network(self.network)
        compile_network(model, self.steps, self.config["learning_rate"], jit_compile=jit_compile)
        return model

    def batches(self, first: int) -> Any:
        config = self.config
        return read_batches(
            self.fn_args.train_files, config["batch_size"], self.network, shuffle_seed=config["seed"], skip=first
        )

    def conclude(self, model: Any) -> dict[str, Any]:
        folder = self.fn_args.serving_model_dir
        export_model(model, self.network, folder)
        if self.network.estimator_export:
            export_like_estimator(model, self.network, str(Path(folder).with_name(_ESTIMATOR_EXPORT)))
        precision = held_out_precision(model, self.network, self.fn_args.eval_files, self.config["batch_size"])
        return {"held_out_mean_average_precision": precision, "size": self.network.size}


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
