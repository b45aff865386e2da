"""Training graphs whose static batch is written into shapes and tables, in ways that networks for TPUs do it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

TRAINED_WITH, SIDE = 2, 8
X = np.random.default_rng(4).normal(size=(5, SIDE, SIDE, 4)).astype(np.float32)


def baked(folder: Path, kind: str) -> Path:
    """A training folder of KINDS or HELD, trained with batches of 2; `answers.npz` holds the answer to X, of 5."""
    import tensorflow as tf

    v1 = tf.compat.v1
    folder.mkdir(parents=True)
    with tf.Graph().as_default(), v1.Session() as session:
        data = tf.data.Dataset.from_tensors(X[0]).repeat().batch(TRAINED_WITH, drop_remainder=True)
        answer = tf.identity(_network(tf, kind, v1.data.make_one_shot_iterator(data).get_next()), name="answer")
        loss = tf.reduce_mean(tf.square(answer)) if kind != "suppressed" else tf.reduce_mean(tf.square(_kernel(tf)))
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
    kernel = _kernel(tf)
    return {**KINDS, **HELD}[kind](tf, tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME")), kernel)


def _kernel(tf: Any) -> Any:
    with tf.compat.v1.variable_scope("", reuse=tf.compat.v1.AUTO_REUSE):
        return tf.compat.v1.get_variable("kernel", [2, 2, 4, 4], use_resource=False)


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


def _numbered(tf: Any, x: Any, kernel: Any) -> Any:
    """Rows taken by the numbers of the examples, as of each box's own class."""
    flat = tf.reshape(x, [x.shape[0], SIDE * SIDE, 4])
    best = tf.argmax(tf.reduce_sum(flat, 2), 1, output_type=tf.int32)
    return tf.gather_nd(flat, tf.stack([tf.range(x.shape[0]), best], 1))


def _offset(tf: Any, x: Any, kernel: Any) -> Any:
    """Rows of all examples in one table, taken by their numbers in it."""
    batch = x.shape.as_list()[0]
    flat = tf.reshape(x, [batch * SIDE * SIDE, 4])
    _, places = tf.nn.top_k(tf.reshape(x[..., 0], [batch, SIDE * SIDE]), 3)
    first = tf.reshape(tf.range(batch) * (SIDE * SIDE), [batch, 1])
    return tf.reshape(tf.gather(flat, tf.reshape(places + first, [-1])), [batch, 3, 4])


def _recurrent(tf: Any, x: Any, kernel: Any) -> Any:
    """An unrolled recurrence that begins with zeros, whose product is computed apart."""
    weights = tf.reshape(kernel, [16, 4])[:4]
    state = tf.zeros([x.shape[0], 4])
    for step in tf.unstack(x, axis=1)[:3]:
        state = tf.tanh(tf.reduce_mean(step, 1) + tf.matmul(state, weights))
    return state


def _spread(tf: Any, x: Any, kernel: Any) -> Any:
    batch = x.shape.as_list()[0]
    wide = tf.broadcast_to(tf.constant([[0.5, 1.0, 2.0, 4.0]]), [batch, 4])
    return tf.concat([tf.reduce_mean(x, [1, 2]) * wide, tf.fill([batch, 2], 0.25)], 1)


def _token(tf: Any, x: Any, kernel: Any) -> Any:
    """As vision transformers: a token in front of the patches, and their places."""
    batch = x.shape.as_list()[0]
    patches = tf.reshape(x, [batch, SIDE * SIDE, 4])
    token = tf.tile(tf.reshape(kernel, [16, 4])[None, :1], [batch, 1, 1])
    return tf.concat([token, patches], 1) + tf.reshape(kernel, [1, 16, 4])[:, :1]


def _framed(tf: Any, x: Any, kernel: Any) -> Any:
    """Zeros that gain a dimension, are padded, joined and turned round before they meet the examples."""
    batch = x.shape.as_list()[0]
    rows = tf.reshape(x, [batch, SIDE, SIDE * 4])
    zeros = tf.expand_dims(tf.concat([tf.zeros([batch, 16]), tf.ones([batch, 14])], 1), 1)
    return tf.concat([tf.reverse(tf.pad(zeros, [[0, 0], [0, 0], [1, 1]]), [2]), rows], 1)


def _scattered(tf: Any, x: Any, kernel: Any) -> Any:
    batch = x.shape.as_list()[0]
    means = tf.reduce_mean(x, [1, 2])
    places = tf.stack([tf.range(batch), tf.argmax(means, 1, output_type=tf.int32)], 1)
    return tf.scatter_nd(places, tf.reduce_max(means, 1), [batch, 4])


def _segmented(tf: Any, x: Any, kernel: Any) -> Any:
    batch = x.shape.as_list()[0]
    owners = tf.reshape(tf.tile(tf.range(batch)[:, None], [1, SIDE]), [-1])
    return tf.math.unsorted_segment_sum(tf.reshape(x, [batch * SIDE, SIDE * 4]), owners, batch)


def _attended(tf: Any, x: Any, kernel: Any) -> Any:
    """Attention by einsum and by matrix products, with heads taken apart by the static batch."""
    batch = x.shape.as_list()[0]
    heads = tf.transpose(tf.reshape(x, [batch, SIDE * SIDE, 2, 2]), [0, 2, 1, 3])
    weights = tf.nn.softmax(tf.einsum("bhqd,bhkd->bhqk", heads, heads))
    mask = tf.linalg.band_part(tf.ones([batch, 2, SIDE * SIDE, SIDE * SIDE]), -1, 0)
    return tf.reshape(tf.transpose(tf.matmul(weights * mask, heads), [0, 2, 1, 3]), [batch, SIDE * SIDE * 4])


def _counted_up(tf: Any, x: Any, kernel: Any) -> Any:
    """Running sums of constants, one-hots, comparisons and choices."""
    batch = x.shape.as_list()[0]
    places = tf.cumsum(tf.ones([batch, SIDE]), 1)
    chosen = tf.where(places > 3.0, tf.reduce_mean(x, [2, 3]), tf.zeros([batch, SIDE]))
    return chosen + tf.one_hot(tf.argmax(chosen, 1), SIDE)


def _rescaled(tf: Any, x: Any, kernel: Any) -> Any:
    batch = x.shape.as_list()[0]
    large = tf.compat.v1.image.resize_bilinear(tf.nn.depth_to_space(x, 2), [20, 12])
    return tf.reshape(tf.nn.space_to_depth(large, 2), [batch * 10, 24])


def _suppressed(tf: Any, x: Any, kernel: Any) -> Any:
    """Boxes that are decoded, suppressed, and padded with rows of constants."""
    batch = x.shape.as_list()[0]
    corner = tf.reshape(x, [batch, SIDE * SIDE, 1, 4])
    boxes = tf.concat([corner[..., :2], corner[..., :2] + 1.0 + corner[..., 2:]], -1)
    scores = tf.sigmoid(tf.reshape(tf.reduce_sum(x, 3), [batch, SIDE * SIDE, 1]))
    kept = tf.image.combined_non_max_suppression(boxes, scores, 6, 6, clip_boxes=False)
    return tf.concat([kept[0], tf.ones([batch, 2, 4])], 1)


def _carried(tf: Any, x: Any, kernel: Any) -> Any:
    """A loop that carries zeros of the static batch."""
    batch = x.shape.as_list()[0]
    means = tf.reduce_mean(x, [1, 2])
    start = (tf.constant(0), tf.zeros([batch, 4]))
    loop = tf.while_loop(lambda i, _: i < 3, lambda i, state: (i + 1, tf.tanh(state + means)), start)
    return loop[1]


def _one_by_one(tf: Any, x: Any, kernel: Any) -> Any:
    """Examples taken one by one, as many as the static batch."""
    return tf.stack([tf.reduce_mean(x[index], [0, 1]) for index in range(x.shape[0])])


def _last(tf: Any, x: Any, kernel: Any) -> Any:
    """The last example beside all others."""
    return tf.reduce_mean(x, [1, 2]) - tf.reduce_mean(x[x.shape[0] - 1], [0, 1])


def _reshaped_inside(tf: Any, x: Any, kernel: Any) -> Any:
    """A loop whose body holds the static batch."""
    batch = x.shape.as_list()[0]

    def body(step: Any, y: Any) -> Any:
        rows = tf.nn.relu(tf.reshape(y, [batch * SIDE, SIDE * 4]))
        return step + 1, tf.reshape(rows, [batch, SIDE, SIDE, 4])

    return tf.reduce_mean(tf.while_loop(lambda i, _: i < 2, body, (tf.constant(0), x))[1], [1, 2])


KINDS = {
    function.__name__[1:]: function
    for function in (
        *(_packed, _unstacked, _counted, _joined, _sliced, _padded, _mirrored, _valued, _dilated),
        *(_shuffled, _tiled, _selected, _numbered, _offset, _recurrent, _spread, _token, _framed),
        *(_attended, _counted_up, _rescaled, _suppressed),
    )
}
HELD = {function.__name__[1:]: function for function in (_scattered, _segmented, _carried, _one_by_one, _last)}
HELD["reshaped_inside"] = _reshaped_inside
"""Where it cannot be proved what is the batch, so that it stays."""
