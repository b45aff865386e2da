"""The digits: real images, divided once and for all, in the files that TFX expects."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tpu2gpu.errors import UsageError
from tpu2gpu_pipelines.datasets import DigitsOptions, write_digits


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow as tf

    images, labels = [], []
    for record in tf.data.TFRecordDataset(str(path), compression_type="GZIP"):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        images.append(features["image"].float_list.value)
        labels.append(features["label"].int64_list.value[0])
    return np.array(images, np.float32), np.array(labels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    assert write_digits(folder) == {"train": 1437, "eval": 360}
    return folder


def splits(folder: Path) -> list[Path]:
    return [folder / f"Split-{name}" / "data_tfrecord-00000-of-00001.gz" for name in ("train", "eval")]


def test_every_digit_of_scikit_learn_is_in_exactly_one_split(folder: Path) -> None:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    wanted = Counter((tuple(row / 16), label) for row, label in zip(pixels.astype(np.float32), labels, strict=True))
    found: Counter[tuple[tuple[float, ...], int]] = Counter()
    for split in splits(folder):
        found.update((tuple(row), label) for row, label in zip(*read(split), strict=True))
    assert found == wanted


def test_images_go_from_0_to_1_and_each_digit_has_its_share(folder: Path) -> None:
    images, labels = read(splits(folder)[1])
    assert images.shape == (360, 64)
    assert (images.min(), images.max()) == (0, 1)
    assert set(Counter(labels).values()) <= {34, 35, 36, 37}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(folder: Path, tmp_path: Path) -> None:
    write_digits(tmp_path / "again")
    write_digits(tmp_path / "other", DigitsOptions(seed=8))
    again, other = splits(tmp_path / "again"), splits(tmp_path / "other")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in splits(folder)]
    assert other[1].read_bytes() != splits(folder)[1].read_bytes()


def test_something_must_be_left_to_train_on() -> None:
    with pytest.raises(UsageError, match=r"0\.95: must be at most 0\.9"):
        DigitsOptions(eval_fraction=0.95)
