"""Ground-truth boxes are read from examples."""

from __future__ import annotations

import numpy as np
import pytest

from tpu2gpu.errors import ExamplesError
from tpu2gpu.running.examples.box_labels import box_features


def test_boxes_are_read_from_one_feature_or_four():
    four = {name: np.array([2.0 * place, 2 * place + 1]) for place, name in enumerate("abcd")}
    four["kind"] = np.array([4, 5])
    one = {"boxes": np.array([0.0, 2, 4, 6, 1, 3, 5, 7]), "kind": np.array([4, 5])}
    for values, names in ((four, "a,b,c,d"), (one, "boxes")):
        labels = box_features(names, "kind").read(values)
        assert labels.boxes.tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
        assert labels.classes.tolist() == [4, 5]
    with pytest.raises(ExamplesError, match="no feature e"):
        box_features("a,b,c,e", "kind").read(four)
    with pytest.raises(ExamplesError, match="four floats a class are needed"):
        box_features("a", "kind").read(four)
    with pytest.raises(ExamplesError, match="one feature is needed, or four"):
        box_features("a,b", "kind")
    assert box_features(None, None).read(four) is None


def test_fractions_become_pixels_of_the_image():
    sides = {
        f"image/object/bbox/{side}": np.array([share])
        for side, share in zip(("ymin", "xmin", "ymax", "xmax"), (0.1, 0.2, 0.5, 0.6), strict=True)
    }
    values = {**sides, "image/object/class/label": np.array([3])}
    values |= {"image/height": np.array([100]), "image/width": np.array([200])}
    assert box_features(None, None).read(values).boxes.tolist() == [[0.1, 0.2, 0.5, 0.6]]
    assert box_features(None, None, "fractions").read(values).boxes.tolist() == [[10, 40, 50, 120]]
    x_first = ",".join(f"image/object/bbox/{side}" for side in ("xmin", "ymin", "xmax", "ymax"))
    assert box_features(x_first, None, "fractions").read(values).boxes.tolist() == [[40, 10, 120, 50]]
    for wrong in (np.array([100, 100]), np.array([0]), None):
        with pytest.raises(ExamplesError, match=r"image/height.*one number above 0 is needed to make pixels"):
            box_features(None, None, "fractions").read({**values, "image/height": wrong})
    del values["image/width"]
    with pytest.raises(ExamplesError, match="no feature image/width"):
        box_features(None, None, "fractions").read(values)
