"""Real data that a dependency brings along, as TFRecord files: nothing is downloaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.interface import EXAMPLES, StepInterface, TextParameter
from tpu2gpu.options import option

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "eval")
IMAGE_SHAPE = (8, 8, 1)
CLASSES = 10
_FILE = "data_tfrecord-00000-of-00001.gz"
_BRIGHTEST = 16.0


@attrs.frozen(kw_only=True)
class DigitsOptions:
    """How the digits are divided.

    Attributes:
        eval_fraction: Share of the images that training never sees.
        seed: Decides which ones.
    """

    eval_fraction: float = option(0.2, "share of the images that training never sees", minimum=0.01)
    seed: int = option(7, "decides which images those are", minimum=0)

    def __attrs_post_init__(self) -> None:
        """Check the fraction's upper end.

        Raises:
            UsageError: Too little is left to train on.
        """
        if self.eval_fraction > 0.9:
            raise UsageError(f"--eval-fraction {self.eval_fraction:g}: must be at most 0.9")


DIGIT_EXAMPLES = StepInterface(
    component="tpu2gpu_pipelines.examples.DigitExamples",
    summary="Write scikit-learn's handwritten digits as examples with the splits train and eval.",
    options=DigitsOptions,
    outputs={"examples": EXAMPLES},
    parameters={"data_uri": TextParameter("folder of examples in the same form to take instead", "")},
)


def write_digits(folder: str | os.PathLike[str], options: DigitsOptions | None = None) -> dict[str, int]:
    """Write scikit-learn's 1,797 handwritten digits as tf.Example records, in the folders that TFX expects.

    Features: `image` (64 floats from 0 to 1, `[8, 8, 1]` by rows) and `label` (one integer, 0 to 9). Each digit has
    the same share in both splits. The same options give the same bytes.

    Args:
        folder: Receives `Split-train/` and `Split-eval/` with one compressed file each.
        options: How to divide.

    Returns:
        The number of images of each split.

    Source: E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    options = options or DigitsOptions()
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / _BRIGHTEST).astype("float32")
    train_images, eval_images, train_labels, eval_labels = train_test_split(
        images, labels, test_size=options.eval_fraction, random_state=options.seed, stratify=labels
    )
    _write(Path(folder) / "Split-train" / _FILE, train_images, train_labels)
    _write(Path(folder) / "Split-eval" / _FILE, eval_images, eval_labels)
    return {"train": len(train_labels), "eval": len(eval_labels)}


def _write(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    import tensorflow as tf

    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP") as file:
        for image, label in zip(images, labels, strict=True):
            features = {
                "image": tf.train.Feature(float_list=tf.train.FloatList(value=image)),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            file.write(example.SerializeToString(deterministic=True))
