"""Training graphs whose static batch is written into shapes and tables, in ways that networks for TPUs do it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

TRAINED_WITH, SIDE = 2, 8
X = np.random.default_rng(4).normal(size=(5, SIDE, SIDE, 4)).astype(np.float32)


def baked(folder: Path, kind: str) -> Path:
    """A training folder of one of KINDS, trained with batches of 2; `answers.npz` holds the answer to X, of 5."""
    import tensorflow as tf

    v1 = tf.compat.v1
    folder.mkdir(parents=True)
    with tf.Graph().as_default(), v1.Session() as session:
        data = tf.data.Dataset.from_tensors(X[0]).repeat().batch(TRAINED_WITH, drop_remainder=True)
        answer = tf.identity(_network(tf, kind, v1.data.make_one_shot_iterator(data).get_next()), name="answer")
        loss = tf.reduce_mean(tf.square(answer))
        v1.train.MomentumOptimizer(0.1, 0.9).minimize(loss, v1.train.get_or_create_global_step())
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(folder / "model.ckpt"), 1)
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, X.shape)
        answer = _network(tf, kind, x)
        v1.train.Saver().restore(session, str(folder / "model.ckpt-1"))
        np.savez(folder / "answers.npz", answer=session.run(answer, {x: X}))
    return folder


def _network(tf: Any, kind: str, x: Any) -> Any:
    kernel = tf.compat.v1.get_variable("kernel", [2, 2, 4, 4], use_resource=False)
    return KINDS[kind](tf, tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME")), kernel)


def _packed(tf: Any, x: Any, kernel: Any) -> Any:
    """As tf.feature_column's input_layer."""
    return tf.reshape(x, tf.stack([tf.shape(x)[0], SIDE * SIDE * 4]))


def _unstacked(tf: Any, x: Any, kernel: Any) -> Any:
    batch, height, width, depth = tf.unstack(tf.shape(x))
    return tf.reshape(x, [batch, height * width, depth])


def _counted(tf: Any, x: Any, kernel: Any) -> Any:
    return tf.reshape(x, tf.stack([tf.shape(x)[0], tf.size(x) // tf.shape(x)[0]]))


def _joined(tf: Any, x: Any, kernel: Any) -> Any:
    batch, rest = tf.split(tf.shape(x), [1, 3])
    return tf.reshape(x, tf.concat([batch, [1], rest], 0))


def _sliced(tf: Any, x: Any, kernel: Any) -> Any:
    return tf.reshape(x, tf.concat([tf.slice(tf.shape(x), [0], [1]), [4, SIDE * SIDE]], 0))


def _padded(tf: Any, x: Any, kernel: Any) -> Any:
    """A feature pyramid over ResNet's fixed padding: two levels, upsampled by reshapes and added."""
    low = tf.nn.conv2d(tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]]), kernel, 2, "VALID")
    batch, height, width, depth = low.shape.as_list()
    spread = tf.reshape(low, [batch, height, 1, width, 1, depth]) * tf.ones([1, 1, 2, 1, 2, 1])
    return tf.reshape(tf.reshape(spread, [batch, height * 2, width * 2, depth]) + x, [batch, -1, 4])


def _mirrored(tf: Any, x: Any, kernel: Any) -> Any:
    wide = tf.pad(x, [[0, 0], [2, 2], [2, 2], [0, 0]], "REFLECT")
    return tf.reshape(wide, [wide.shape[0], 144, 4])


def _valued(tf: Any, x: Any, kernel: Any) -> Any:
    wide = tf.pad(x, [[0, 0], [2, 0], [0, 2], [0, 0]], constant_values=-1.0)
    return tf.reshape(wide, [wide.shape[0] * 2, 50, 4])


def _dilated(tf: Any, x: Any, kernel: Any) -> Any:
    """A dilated convolution as TensorFlow 1 builds it: the blocks lie in the batch for a while."""
    blocks = tf.raw_ops.SpaceToBatchND(input=x, block_shape=[2, 2], paddings=[[2, 2], [2, 2]])
    small = tf.nn.conv2d(blocks, kernel, 1, "SAME")
    whole = tf.raw_ops.BatchToSpaceND(input=small, block_shape=[2, 2], crops=[[2, 2], [2, 2]])
    return tf.reshape(whole, [whole.shape[0], SIDE * SIDE, 4])


def _shuffled(tf: Any, x: Any, kernel: Any) -> Any:
    """The channel shuffle of ShuffleNet, then rows gathered by constant indices."""
    batch, height, width, depth = x.shape.as_list()
    groups = tf.transpose(tf.reshape(x, [batch, height, width, 2, depth // 2]), [0, 1, 2, 4, 3])
    return tf.gather(tf.reshape(groups, [batch, height, width, depth]), [[2, 0], [1, 2]], axis=1)


def _tiled(tf: Any, x: Any, kernel: Any) -> Any:
    """Constant anchors that are tiled to the batch."""
    anchors = tf.constant(np.arange(4, dtype=np.float32)[None])
    each = tf.tile(anchors, [x.shape[0], 1])
    return tf.reduce_mean(x, [1, 2]) * each


def _selected(tf: Any, x: Any, kernel: Any) -> Any:
    """Entries gathered at indices that count the batch."""
    batch = x.shape.as_list()[0]
    flat = tf.reshape(x, [batch * SIDE, SIDE * 4])
    return tf.reshape(tf.nn.softmax(flat), [batch, SIDE, SIDE * 4])


KINDS = {
    function.__name__[1:]: function
    for function in (
        *(_packed, _unstacked, _counted, _joined, _sliced, _padded, _mirrored, _valued, _dilated),
        *(_shuffled, _tiled, _selected),
    )
}
