"""A version folder for TensorFlow Serving, with requests of real examples to warm up with."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.running.runner import TensorSpec
from tpu2gpu.trt_converter.backends.base import Conversion
from tpu2gpu.trt_converter.feeds import feeds_for
from tpu2gpu.trt_converter.layouts.kserve import write_inference_service
from tpu2gpu.trt_converter.onnx import convert as onnx
from tpu2gpu.trt_converter.profiles import compared_sizes

if TYPE_CHECKING:
    from tpu2gpu.trt_converter.request import Request

REPOSITORY = "tf_serving"
WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"
_MOST_REQUESTS = 1000  # TensorFlow Serving does not start with more
_EXAMPLES = 64
# What a SavedModel consists of; reports and manifests of ours stay where they are.
_PARTS = ("saved_model.pb", "variables", "assets", "assets.extra", "fingerprint.pb", "keras_metadata.pb")


@attrs.frozen
class Servable:
    """A version folder.

    Attributes:
        path: Where it is, relative to the serving folder.
        model: What its model is: `the source`, or a SavedModel of the serving folder.
        requests: How many requests warm it up.
    """

    path: str
    model: str
    requests: int


def write_servable(folder: Path, request: Request, made: Conversion) -> Servable:
    """Write `tf_serving/<name>/<version>/`: a SavedModel as it is, and its warm-up where there are examples.

    Source: https://www.tensorflow.org/tfx/serving/saved_model_warmup

    Args:
        folder: The serving folder.
        request: What was asked for.
        made: What the back end wrote.

    Raises:
        ExamplesError: The examples do not fit the model.
    """
    options = request.options
    path = f"{REPOSITORY}/{options.name}/{options.model_version}"
    home = folder / path
    home.mkdir(parents=True)
    for name in _PARTS:
        if (part := made.saved_model / name).is_dir():
            shutil.copytree(part, home / name)
        elif part.is_file():
            shutil.copyfile(part, home / name)
    count = 0
    if options.examples:
        count, _ = request.in_child(
            "tpu2gpu.trt_converter.layouts.tf_serving:write_warm_up",
            "the warm-up requests",
            onnx.ENVIRONMENT,
            preload=onnx.PRELOAD,
            path=str(home / WARM_UP_FILE),
            model=options.name,
            signature=options.signature,
            inputs=[spec.to_json() for spec in made.plan.inputs],
            sizes=[compared_sizes(profile) for profile in request.profiles or [{}]],
            examples=list(options.examples),
            reading=request.reading,
        )
    write_inference_service(folder, options.name, on_gpu=True, model_format="tensorflow", repository=REPOSITORY)
    is_source = made.saved_model == request.source
    return Servable(path, "the source" if is_source else f"`{made.saved_model.name}/`", int(count))


def write_warm_up(
    *,
    path: str,
    model: str,
    signature: str,
    inputs: Sequence[Mapping[str, Any]],
    sizes: Sequence[Mapping[str, Any]],
    examples: Sequence[str],
    reading: Mapping[str, Any],
) -> int:
    """Write requests of real examples; the arguments and the result are plain data.

    Args:
        path: The file.
        model: The model's name.
        signature: Which signature the requests ask for.
        inputs: The signature's inputs.
        sizes: The batches, see `feeds_for`.
        examples: Files of examples.
        reading: How examples are read, see `Reading.to_json`.

    Returns:
        How many requests there are.

    Raises:
        ExamplesError: The examples do not fit the inputs.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    specs = [TensorSpec.from_json(spec) for spec in inputs]
    feeds = feeds_for(specs, sizes=sizes, examples=examples, reading=reading, limit=_EXAMPLES).batches
    Path(path).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(path) as writer:
        for feed in feeds[:_MOST_REQUESTS]:
            asked = predict_pb2.PredictRequest()
            asked.model_spec.name, asked.model_spec.signature_name = model, signature
            for key, array in feed.items():
                asked.inputs[key].CopyFrom(tf.make_tensor_proto(array))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=asked))
            writer.write(log.SerializeToString(deterministic=True))
    return min(len(feeds), _MOST_REQUESTS)
