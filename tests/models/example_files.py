"""Files of tf.Examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_examples(path: Path, features: dict[str, np.ndarray]) -> Path:
    """Writes one record for each row: numbers of any shape, or byte strings, by feature."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in zip(*features.values(), strict=True):
            example = tf.train.Example()
            for name, value in zip(features, row, strict=True):
                example.features.feature[name].CopyFrom(_feature(value))
            writer.write(example.SerializeToString(deterministic=True))
    return path


def _feature(value: object) -> object:
    import tensorflow as tf

    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    array = np.asarray(value)
    if array.dtype.kind == "f":
        return tf.train.Feature(float_list=tf.train.FloatList(value=array.ravel()))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=array.ravel()))
