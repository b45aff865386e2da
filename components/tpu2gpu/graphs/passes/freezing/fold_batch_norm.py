"""Fold batch norm into the convolution before it: one multiplication of the weights instead of one per image."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from tpu2gpu.graphs.constants import constant_shape, constant_value, put_constant
from tpu2gpu.graphs.edit import consumers, restate, set_inputs
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import data_inputs, producer
from tpu2gpu.graphs.ops import ADDS, DT_FLOAT
from tpu2gpu.graphs.passes.base import Changes, Pass
from tpu2gpu.graphs.passes.fused_batch_norm import FUSED_BATCH_NORMS, is_training, weight_nodes

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
_ADDS = ("BiasAdd", *ADDS)

Array = np.ndarray[Any, Any]


@attrs.frozen
class FoldedNorm:
    """One batch norm that is no more.

    Attributes:
        convolution: The node that took it in.
        node: The node that was its last, and is the convolution's bias now.
        relative_error: Largest difference on random input, over the largest value.
    """

    convolution: str
    node: str
    relative_error: float


@attrs.define
class _Affine:
    """`y * scale + shift` per channel, in float64; `last` is the node that gives it."""

    scale: Array
    shift: Array
    last: Any


class FoldBatchNorm(Pass):
    """Fold what follows convolutions and is linear in each channel: fused batch norm, or a product and a sum.

    Weights, which must be constants, are multiplied in float64 and rounded once to float32, so results differ in the
    last bits; how much is measured on random input. Only float32 convolutions whose result has one consumer are
    changed. The change is `fold_batch_norm`: what was `folded`, and the `largest_relative_error`.
    """

    def run(self, model: ServingModel) -> Changes:
        """Multiply kernels, and put biases in the place of batch norms."""
        finder = _Finder(model)
        folded = []
        known: dict[Any, str] = {}
        for name in [name for name, node in model.nodes.items() if node.op in _CONVOLUTIONS]:
            found = finder.affine_behind(name)
            if found is not None:
                folded.append(_fold(model, model.nodes[name], found, known))
        model.prune()
        worst = max((it.relative_error for it in folded), default=0.0)
        return {"fold_batch_norm": {"largest_relative_error": worst, "folded": [attrs.asdict(it) for it in folded]}}

    def summary(self, changes: Changes) -> list[str]:
        """Tell how many batch norms there were."""
        return [f"folds {len(changes['fold_batch_norm']['folded'])} batch norms into convolutions"]


def _fold(model: ServingModel, convolution: Any, affine: _Affine, known: dict[Any, str]) -> FoldedNorm:
    kernel_name = producer(convolution.input[1])
    before = constant_value(model, kernel_name)
    scale = affine.scale
    if convolution.op == "DepthwiseConv2dNative":
        scale = scale.reshape(before.shape[2:])
    kernel = (before.astype(np.float64) * scale).astype(np.float32)
    bias = affine.shift.astype(np.float32)
    convolution.input[1] = put_constant(model, f"{kernel_name}/folded", kernel, known)
    last = affine.last
    set_inputs(last, [convolution.name, put_constant(model, f"{last.name}/bias", bias, known)])
    restate(last, "BiasAdd", T=DT_FLOAT)
    last.attr["data_format"].s = convolution.attr["data_format"].s or b"NHWC"
    error = _measure(convolution.op, before, kernel, affine.scale, affine.shift, bias)
    return FoldedNorm(convolution.name, last.name, error)


def _measure(op: str, before: Array, after: Array, scale: Array, shift: Array, bias: Array) -> float:
    """Return the relative error on random input [1, height, width, channels], convolved without strides."""
    import tensorflow as tf

    size = (1, 8 + before.shape[0], 8 + before.shape[1], before.shape[2])
    image = np.random.default_rng(0).standard_normal(size, np.float32)
    run = tf.nn.depthwise_conv2d if op == "DepthwiseConv2dNative" else tf.nn.conv2d
    strides = [1, 1, 1, 1]
    with tf.device("/CPU:0"):
        wanted = run(image, before, strides, "SAME") * scale.astype(np.float32) + shift.astype(np.float32)
        found = run(image, after, strides, "SAME") + bias
        largest = float(tf.reduce_max(tf.abs(wanted)))
        return float(tf.reduce_max(tf.abs(wanted - found))) / largest if largest else 0.0


class _Finder:
    """The way from convolutions to what is linear in each channel."""

    def __init__(self, model: ServingModel) -> None:
        self._model = model
        self._consumers = consumers(model.nodes)
        self._roots = model.roots()

    def affine_behind(self, name: str) -> _Affine | None:
        """Return what the nodes behind a convolution do to each channel, None when there is no batch norm in it."""
        convolution = self._model.nodes[name]
        kernel = self._model.nodes[producer(convolution.input[1])]
        if kernel.op != "Const" or convolution.attr["T"].type != DT_FLOAT or convolution.input[1] != kernel.name:
            return None
        shape = constant_shape(self._model, kernel.name)
        channels = shape[3] if convolution.op == "Conv2D" else shape[2] * shape[3]
        channels_first = convolution.attr["data_format"].s == b"NCHW"
        found = _Affine(np.ones(channels), np.zeros(channels), convolution)
        scaled = False
        while True:
            step = self._step(found.last, channels, channels_first)
            if step is None:
                return found if scaled else None
            scale, shift, node = step
            scaled = scaled or node.op in ("Mul", *FUSED_BATCH_NORMS)
            found = _Affine(found.scale * scale, found.shift * scale + shift, node)

    def _step(self, node: Any, channels: int, channels_first: bool) -> tuple[Any, Any, Any] | None:
        """Return scale and shift of a node's one consumer, and that consumer."""
        found = self._consumers[node.name]
        if len(found) != 1 or node.name in self._roots:
            return None
        consumer, position = found[0]
        if any(it.startswith("^") for it in consumer.input):
            return None
        if consumer.op in FUSED_BATCH_NORMS and position == 0 and not is_training(consumer):
            return self._fused(consumer)
        if consumer.op not in ("Mul", "Sub", *_ADDS) or (consumer.op == "Sub" and position == 1):
            return None
        value = self._channel_values(data_inputs(consumer)[1 - position], channels, channels_first, consumer.op)
        if value is None:
            return None
        if consumer.op == "Mul":
            return value, 0.0, consumer
        return 1.0, -value if consumer.op == "Sub" else value, consumer

    def _fused(self, node: Any) -> tuple[Any, Any, Any] | None:
        names = weight_nodes(node)
        only_first = all(
            reference == node.name
            for consumer, _ in self._consumers[node.name]
            for reference in data_inputs(consumer)
            if producer(reference) == node.name
        )
        if not only_first or any(self._model.nodes[name].op != "Const" for name in names):
            return None
        gamma, beta, mean, variance = (constant_value(self._model, name).astype(np.float64) for name in names)
        scale = gamma / np.sqrt(variance + node.attr["epsilon"].f)
        return scale, beta - mean * scale, node

    def _channel_values(self, reference: str, channels: int, channels_first: bool, op: str) -> Array | None:
        """Return a constant as one number for each channel, None when it is none or has another form."""
        node = self._model.nodes[producer(reference)]
        if node.op != "Const" or node.attr["dtype"].type != DT_FLOAT:
            return None
        shape = constant_shape(self._model, node.name)
        one_each = (channels, 1, 1) if channels_first and op != "BiasAdd" else (channels,)
        if len(shape) > 4 or (shape and (shape[-len(one_each) :] != one_each or set(shape[: -len(one_each)]) - {1})):
            return None
        return np.broadcast_to(constant_value(self._model, node.name).astype(np.float64).reshape(-1), channels)
