"""Several operations that a converter takes for one: what looks like the pattern and is not, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tests.conformance.case import Case, combinations, ramp

X = ramp("float32", 4, 6)
IMAGE = ramp("float32", 2, 8, 9, 3)
KERNEL = ramp("float32", 3, 3, 3, 4, scale=0.2)
Made = Mapping[str, Callable[..., Any]]


def cases() -> Iterator[Case]:
    """Each pattern, and its neighbours."""
    extremes = np.array([-np.inf, -3, -0.5, -0.0, 0, 0.5, 2, 3, 6, np.inf], np.float32)
    for label, made_by in activations().items():
        op = "Erf" if label == "gelu, exact" else "Mul"
        fed = extremes[1:-1] if label not in ("relu of the other", "largest") else extremes
        yield from combinations(op, {f"{label}": {"x": fed}}, made_by=made_by)
    for label, made_by in reshapes().items():
        yield from combinations("Reshape", {label: {"x": X, "y": ramp("float32", 2, 5)}}, made_by=made_by)
    for label, made_by in normalisations().items():
        yield from combinations("Rsqrt", {label: {"x": IMAGE}}, made_by=made_by)
    for label, made_by in convolutions().items():
        yield from combinations("Conv2D", {label: {"x": IMAGE}}, made_by=made_by)
    yield from combinations("DepthwiseConv2dNative", {"dilated": {"x": IMAGE}}, made_by=dilated_depthwise)
    for label, made_by in pooled().items():
        yield from combinations("Mean" if "mean" in label else "Max", {label: {"x": IMAGE}}, made_by=made_by)
    for label, made_by in products().items():
        yield from combinations("MatMul", {label: {"x": X}}, made_by=made_by)
    for label, made_by in identities().items():
        yield from combinations("Fill", {label: {"x": X}}, made_by=made_by)
    yield from combinations("Softmax", {"attention": {"x": ramp("float32", 2, 5, 8)}}, made_by=attention)
    yield from combinations("Transpose", {"there and back": {"x": IMAGE}}, made_by=transposed)
    yield from combinations("Transpose", {"past arithmetic": {"x": IMAGE}}, made_by=transposed_sums)
    yield from combinations("Concat", {"rows": {"x": X}}, made_by=old_concat)
    yield from casts()


def casts() -> Iterator[Case]:
    """Casts to a type and back that round, and those that do not."""
    numbers = {
        "float32": [1.37, -2.74, 3000.3, 1e-9],
        "int64": [2**24 + 1, 2**31 + 5, -7, 2**53 + 1],
        "bool": [True, False],
    }
    numbers |= {
        "int32": [2**24 + 1, 70000, -7, 300],
        "float16": [1.37, 65504, -0.1, 0],
        "float64": [1 / 3, 1e300, -1, 16777217],
    }
    between = ["float16", "float32", "float64", "int32", "int64", "int8", "uint8", "int16", "bool"]
    for dtype, values in numbers.items():
        some = np.array(values, dtype)
        for middle in between:
            if middle == dtype or (some.dtype.kind == "f" and np.dtype(middle).kind in "iu"):
                continue  # what does not fit an integer is the casts' family's
            fed = {f"by {middle}": {"x": some}}
            yield from combinations("Cast", fed, made_by=cast_twice, middle=[middle])
    whole = {"by int32": {"x": np.array([1.5, -2.5, 300, 0], np.float32)}}
    yield from combinations("Cast", whole, made_by=cast_twice, middle=["int32", "int64"])


def activations() -> Made:
    import tensorflow as tf

    steps = np.array([0.5, 1.5, -0.5, 0.1, 0.2, 0.3, 0.4, 0.5], np.float32)
    return {
        "leaky relu": lambda x: tf.maximum(x * 0.2, x),
        "leaky relu, steep": lambda x: tf.maximum(x * 1.5, x),
        "leaky relu, falling": lambda x: tf.maximum(x * -0.5, x),
        "leaky relu, of another": lambda x: tf.maximum((x + 1) * 0.2, x),
        "leaky relu, by element": lambda x: tf.maximum(x * steps[:8], x),
        "threshold": lambda x: x * tf.cast(x > 0.5, tf.float32),
        "threshold, below zero": lambda x: x * tf.cast(x > -1.0, tf.float32),
        "threshold, of another": lambda x: (x + 1) * tf.cast(x > 0.5, tf.float32),
        "threshold, by element": lambda x: x * tf.cast(x > steps[:8], tf.float32),
        "threshold, at it": lambda x: x * tf.cast(x >= 0.5, tf.float32),
        "hard swish": lambda x: x * tf.nn.relu6(x + 3) / 6,
        "hard sigmoid": lambda x: tf.clip_by_value(0.2 * x + 0.5, 0, 1),
        "swish": lambda x: x * tf.sigmoid(x),
        "swish, steep": lambda x: x * tf.sigmoid(1.702 * x),
        "mish": lambda x: x * tf.tanh(tf.math.softplus(x)),
        "gelu": lambda x: 0.5 * x * (1 + tf.tanh(0.7978845608 * (x + 0.044715 * tf.pow(x, 3.0)))),
        "gelu, exact": lambda x: 0.5 * x * (1 + tf.math.erf(x / 1.4142135)),
        "prelu": lambda x: tf.nn.relu(x) - steps[:8] * tf.nn.relu(-x),
        "relu of the other": lambda x: tf.nn.relu(-x) * 1.0,
        "largest": lambda x: tf.minimum(tf.maximum(x, -1.0), 1.0) * 1.0,
        "bounds crossed": lambda x: tf.minimum(tf.maximum(x, 2.0), 1.0) * 1.0,
    }


def reshapes() -> Made:
    import tensorflow as tf

    return {
        "flat": lambda x, y: (tf.reshape(x, tf.stack([tf.shape(x)[0], -1])), y),
        "rows of another": lambda x, y: (tf.reshape(x, tf.stack([tf.shape(y)[0], -1])), y),
        "rows of another that nothing else reads": lambda x, y: tf.reshape(x, tf.stack([tf.shape(y)[0], -1])),
        "rows in the middle": lambda x, y: (tf.reshape(x, tf.stack([-1, tf.shape(y)[0]])), y),
        "columns first": lambda x, y: (tf.reshape(x, tf.stack([tf.shape(x)[1], -1])), y),
        "all": lambda x, y: (tf.reshape(x, [-1]), y),
        "as another": lambda x, y: (tf.reshape(x[:2, :5], tf.shape(y)), y),
        "rows and one": lambda x, y: (tf.reshape(x, tf.concat([tf.shape(x)[:1], [2, 3]], 0)), y),
        "joined": lambda x, y: (tf.reshape(x, tf.concat([tf.shape(x)[:-1], [3, 2]], 0)), y),
        "product": lambda x, y: (tf.reshape(x, [tf.shape(x)[0] * 2, 3]), y),
        "twice": lambda x, y: (tf.reshape(tf.reshape(x, [2, -1]), [-1, 4]), y),
        "of none": lambda x, y: (tf.reshape(x[:0], tf.stack([tf.shape(x)[1], -1])), y),
    }


def normalisations() -> Made:
    import tensorflow as tf

    def moments(x: Any, axes: list[int], epsilon: float = 1e-3) -> Any:
        mean, variance = tf.nn.moments(x, axes, keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + epsilon)

    scale, offset = ramp("float32", 3), ramp("float32", 3, scale=0.5)
    return {
        "layer": lambda x: moments(x, [-1]) * scale + offset,
        "layer, over all": lambda x: moments(x, [1, 2, 3]) * scale + offset,
        "layer, other epsilon": lambda x: moments(x, [-1], 1e-12) * scale + offset,
        "instance": lambda x: moments(x, [1, 2]) * scale + offset,
        "group": lambda x: tf.reshape(moments(tf.reshape(x, [2, 8, 9, 3, 1]), [1, 2, 4]), [2, 8, 9, 3]),
        "batch": lambda x: tf.nn.batch_normalization(x, offset, offset + 1.5, offset, scale, 1e-3),
        "root mean square": lambda x: x * tf.math.rsqrt(tf.reduce_mean(x * x, -1, keepdims=True) + 1e-6) * scale,
        "length": lambda x: tf.nn.l2_normalize(x, -1, 1e-12),
        "standard": lambda x: tf.image.per_image_standardization(x) + tf.math.rsqrt(tf.reduce_max(x) + 9),
    }


def convolutions() -> Made:
    import tensorflow as tf

    def conv(x: Any, padding: str = "VALID", stride: int = 1, **how: Any) -> Any:
        return tf.nn.conv2d(x, KERNEL, stride, padding, **how)

    def spread(x: Any, crops: list[list[int]], pads: list[list[int]], padding: str = "VALID") -> Any:
        return tf.batch_to_space(conv(tf.space_to_batch(x, [2, 2], pads), padding), [2, 2], crops)

    bias = ramp("float32", 4)
    none = [[0, 0], [0, 0]]
    return {
        "padded before": lambda x: conv(tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]]), stride=2),
        "padded with ones before": lambda x: conv(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1.0)),
        "mirrored before": lambda x: conv(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT")),
        "padded before, same": lambda x: conv(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), "SAME", 2),
        "channels padded before": lambda x: conv(tf.pad(x[..., :2], [[0, 0], [1, 1], [1, 1], [0, 1]])),
        "images padded before": lambda x: conv(tf.pad(x, [[0, 1], [1, 1], [1, 1], [0, 0]])),
        "bias": lambda x: tf.nn.bias_add(conv(x, "SAME"), bias) * 1.5,
        "sum with a constant": lambda x: conv(x, "SAME") + bias,
        "sum with a constant of one image": lambda x: conv(x) + ramp("float32", 6, 7, 4),
        "scaled": lambda x: conv(x, "SAME") * bias + 1,
        "spread": lambda x: spread(x, none, [[0, 0], [0, 1]]),
        "spread, same": lambda x: spread(x, [[0, 0], [0, 1]], [[0, 0], [0, 1]], "SAME"),
        "spread, padded": lambda x: spread(x, [[0, 0], [0, 1]], [[2, 2], [2, 3]]),
        "spread, cropped": lambda x: spread(x, [[1, 0], [0, 2]], [[2, 2], [2, 3]]),
        "dilated": lambda x: tf.nn.conv2d(x, KERNEL, 1, "SAME", dilations=2),
        "dilated, valid": lambda x: tf.nn.conv2d(x, KERNEL, 1, "VALID", dilations=[1, 3]),
        "one dimension": lambda x: tf.nn.conv1d(x[:, 0], KERNEL[0], 2, "SAME"),
        "one dimension, dilated": lambda x: tf.nn.conv1d(x[:, 0], KERNEL[0], 1, "SAME", dilations=2),
        "of fed kernels": lambda x: tf.nn.conv2d(x, tf.reshape(x[0, :3, :3, :], [3, 3, 3, 1]), 1, "SAME"),
    }


def dilated_depthwise(x: Any) -> Any:
    import tensorflow as tf

    return tf.nn.depthwise_conv2d(x, KERNEL[..., :2], [1, 1, 1, 1], "SAME", dilations=[2, 2])


def pooled() -> Made:
    import tensorflow as tf

    return {
        "mean": lambda x: tf.reduce_mean(x, [1, 2]),
        "mean, kept": lambda x: tf.reduce_mean(x, [1, 2], keepdims=True),
        "mean of rows": lambda x: tf.reduce_mean(x, [1]),
        "mean of channels": lambda x: tf.reduce_mean(x, [2, 3]),
        "mean after a turn": lambda x: tf.reduce_mean(tf.transpose(x, [0, 3, 1, 2]), [2, 3]),
        "mean after another turn": lambda x: tf.reduce_mean(tf.transpose(x, [0, 2, 3, 1]), [2, 3]),
        "largest": lambda x: tf.reduce_max(x, [1, 2]),
        "largest after a turn": lambda x: tf.reduce_max(tf.transpose(x, [0, 3, 1, 2]), [2, 3], keepdims=True),
    }


def products() -> Made:
    import tensorflow as tf

    weights, bias = ramp("float32", 6, 5), ramp("float32", 5)
    return {
        "sum": lambda x: tf.matmul(x, weights) + bias,
        "scaled sum": lambda x: 2.0 * tf.matmul(x, weights) + 0.5 * bias,
        "scaled by a vector": lambda x: bias * tf.matmul(x, weights) + bias,
        "sum of a column": lambda x: tf.matmul(x, weights) + ramp("float32", 4, 1),
        "sum of a row": lambda x: tf.matmul(x, weights) + ramp("float32", 1, 5),
        "larger sum": lambda x: tf.matmul(x, weights) + ramp("float32", 2, 4, 5),
        "turned": lambda x: tf.matmul(x, x, transpose_b=True) + 1.0,
        "bias": lambda x: tf.nn.bias_add(tf.matmul(x, weights), bias),
        "twice": lambda x: tf.matmul(tf.nn.relu(tf.matmul(x, weights)), weights, transpose_b=True) + x,
        "scalar first": lambda x: tf.constant([[3.0]]) * tf.matmul(x, weights) + bias,
    }


def identities() -> Made:
    import tensorflow as tf

    return {
        "eye": lambda x: tf.eye(tf.shape(x)[0], tf.shape(x)[1]) + tf.fill(tf.shape(x), 0.0),
        "square eye": lambda x: tf.eye(tf.shape(x)[0]) + tf.fill([1, 1], 0.0),
        "eyes": lambda x: tf.eye(tf.shape(x)[0], batch_shape=[2]) + tf.fill([1, 1], 0.0),
        "twos": lambda x: tf.linalg.diag(tf.fill(tf.shape(x)[:1], 2.0)),
        "causal mask": lambda x: tf.linalg.band_part(tf.fill([tf.shape(x)[0], tf.shape(x)[0]], 1.0), -1, 0),
    }


def attention(x: Any) -> Any:
    import tensorflow as tf

    heads = tf.transpose(tf.reshape(x, [tf.shape(x)[0], tf.shape(x)[1], 2, 4]), [0, 2, 1, 3])
    scores = tf.matmul(heads, heads, transpose_b=True) / 2.0
    count = tf.shape(x)[1]
    mask = (1.0 - tf.linalg.band_part(tf.ones([count, count]), -1, 0)) * -1e9
    read = tf.matmul(tf.nn.softmax(scores + mask), heads)
    return tf.reshape(tf.transpose(read, [0, 2, 1, 3]), tf.shape(x))


def transposed(x: Any) -> Any:
    import tensorflow as tf

    return tf.transpose(tf.nn.relu(tf.transpose(x, [0, 3, 1, 2]) + 1), [0, 2, 3, 1])


def transposed_sums(x: Any) -> Any:
    import tensorflow as tf

    turned = tf.transpose(x, [0, 3, 1, 2])
    joined = tf.concat([turned, turned * ramp("float32", 3, 1, 1)], 1)
    return tf.transpose(tf.pad(joined, [[0, 0], [0, 0], [1, 0], [0, 2]]), [0, 2, 3, 1])[:, 1:, ::-1]


def old_concat(x: Any) -> Any:
    import tensorflow as tf

    return tf.raw_ops.Concat(concat_dim=1, values=[x, x + 1])


def cast_twice(x: Any, middle: str) -> Any:
    import tensorflow as tf

    by = tf.cast(x, middle)
    return tf.cast(by, x.dtype), tf.cast(tf.cast(by, tf.float32), tf.bool)
