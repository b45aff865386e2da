import io
import sys

import numpy as np
import pytest

from tpu2gpu.errors import EnvironmentLacksError
from tpu2gpu_pipelines.scenes import CLASS_NAMES, SceneOptions, load_photographs, make_scenes, write_scenes


@pytest.fixture(scope="module")
def photographs():
    return load_photographs()


def test_the_same_seed_makes_the_same_scenes(photographs):
    first, second, other = (list(make_scenes(photographs["train"], 4, seed)) for seed in (5, 5, 6))
    assert [scene.jpeg for scene in first] == [scene.jpeg for scene in second]
    assert [scene.jpeg for scene in first] != [scene.jpeg for scene in other]


@pytest.mark.parametrize(("package", "module"), [("scikit-learn", "sklearn.datasets"), ("matplotlib", "matplotlib")])
def test_a_package_without_its_photographs_is_named(package, module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EnvironmentLacksError, match=rf"comes with {package} and cannot be read.*data_uri"):
        write_scenes(tmp_path)


def test_splits_are_made_of_different_photographs(photographs):
    train, held_out = ({np.asarray(it).tobytes() for it in photographs[split]} for split in ("train", "eval"))
    assert train
    assert held_out
    assert not train & held_out


def test_boxes_fit_what_is_drawn(photographs):
    from PIL import Image

    scenes = list(make_scenes(photographs["eval"], 60, 2))
    for scene in scenes:
        with Image.open(io.BytesIO(scene.jpeg)) as image:
            assert image.size == (scene.width, scene.height)
        assert scene.boxes.shape == (len(scene.classes), 4)
        assert (scene.boxes[:, :2] >= 0).all()
        assert (scene.boxes[:, 2:] > scene.boxes[:, :2] + 5).all()
        assert (scene.boxes[:, 2:] <= [scene.height, scene.width]).all()
        assert set(scene.classes) <= set(range(1, len(CLASS_NAMES) + 1))
    assert {kind for scene in scenes for kind in scene.classes} == set(range(1, len(CLASS_NAMES) + 1))
    assert {len(scene.classes) for scene in scenes} >= {1, 2, 3}
    modes = {Image.open(io.BytesIO(scene.jpeg)).mode for scene in scenes}
    assert modes == {"RGB", "L"}


def test_records_have_the_features_of_the_object_detection_api(tmp_path):
    import tensorflow as tf

    counts = write_scenes(tmp_path, SceneOptions(train_scenes=2, eval_scenes=3, seed=1))
    assert counts == {"train": 2, "eval": 3}
    for split, count in counts.items():
        (file,) = (tmp_path / f"Split-{split}").iterdir()
        records = [tf.train.Example.FromString(it.numpy()) for it in tf.data.TFRecordDataset(str(file), "GZIP")]
        assert len(records) == count
        for record in records:
            feature = record.features.feature
            boxes = len(feature["image/object/class/label"].int64_list.value)
            for side in ("ymin", "xmin", "ymax", "xmax"):
                values = feature[f"image/object/bbox/{side}"].float_list.value
                assert len(values) == boxes
                assert all(0 <= value <= 1 for value in values)
            assert len(feature["image/object/class/text"].bytes_list.value) == boxes
            assert feature["image/encoded"].bytes_list.value[0].startswith(b"\xff\xd8")
            assert feature["image/height"].int64_list.value[0] >= 96
