"""What people give a model: one array for its only input; hints where a batch or a type is all that is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tpu2gpu.errors import SignatureError
from tpu2gpu.running.runner import TensorSpec, check_feeds

IMAGE = TensorSpec("image", "float32", (None, 8, 8))
OTHER = TensorSpec("other", "int32", (None,))


def test_one_array_feeds_the_only_input() -> None:
    array = np.zeros((2, 8, 8), np.float32)
    assert check_feeds([IMAGE], array, "model")["image"] is array


def test_one_array_is_too_few_for_two_inputs() -> None:
    with pytest.raises(SignatureError, match="takes 2 inputs, not one array") as caught:
        check_feeds([IMAGE, OTHER], np.zeros((2, 8, 8), np.float32), "model")
    assert list(caught.value.details) == [str(IMAGE), str(OTHER)]


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (np.zeros((8, 8), np.float32), "image[None] is a batch of one example"),
        (np.zeros((2, 8, 8), np.float64), "image.astype('float32') has the type"),
        (np.zeros((2, 8, 8), np.uint8), "image.astype('float32') has the type"),
        (np.zeros((2, 9, 8), np.float32), ""),
    ],
)
def test_the_way_to_fit_is_told_where_there_is_one(given: Any, hint: str) -> None:
    with pytest.raises(SignatureError) as caught:
        check_feeds([IMAGE], given, "model")
    assert caught.value.hint == hint
