"""Write this project's examples: machines that are well or about to fail, by sixteen readings each.

    python make_examples.py data

What a pipeline wants of your own data is what this writes: a folder with `Split-train` and `Split-eval`, in each any
number of TFRecord files of tf.Examples, plain or compressed. A feature feeds the model's input of the same name.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

COUNTS = {"train": 2048, "eval": 512}


def write_examples(folder: Path, seed: int = 7) -> None:
    """Write both splits.

    Args:
        folder: Receives them.
        seed: The same seed gives the same examples.
    """
    draw = np.random.default_rng(seed)
    mixing = draw.normal(size=(16, 4))
    for split, count in COUNTS.items():
        (folder / f"Split-{split}").mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(folder / f"Split-{split}" / "part-0.tfrecord")) as file:
            for readings in draw.normal(size=(count, 16)).astype("float32"):
                causes = readings @ mixing
                file.write(_example(readings, state=int(causes.argmax()), wear=float(np.tanh(causes.max() / 8))))


def _example(readings: np.ndarray, state: int, wear: float) -> bytes:
    features = {
        "readings": tf.train.Feature(float_list=tf.train.FloatList(value=readings)),
        "state": tf.train.Feature(int64_list=tf.train.Int64List(value=[state])),
        "wear": tf.train.Feature(float_list=tf.train.FloatList(value=[wear])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


if __name__ == "__main__":
    write_examples(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
