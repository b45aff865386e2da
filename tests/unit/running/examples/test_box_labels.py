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
