"""Branches that no probe reaches are named, and a source that gives NaN is told as that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpu2gpu.errors import ExamplesError
from tpu2gpu.trt_converter.judge.coverage import not_exercised
from tpu2gpu.trt_converter.parity import check_finite

X = np.arange(-2, 3, dtype=np.float32)


def saved(serve: Callable[[Any], Any], folder: Path, module: Any = None) -> str:
    import tensorflow as tf

    specs = [tf.TensorSpec([None], tf.float32, name="x")]
    tf.saved_model.save(module or tf.Module(), str(folder), signatures=tf.function(serve, input_signature=specs))
    return str(folder)


def missed(serve: Callable[[Any], Any], folder: Path, *batches: Any, module: Any = None) -> list[str]:
    return not_exercised(saved(serve, folder, module), "serving_default", [{"x": batch} for batch in batches])


def test_a_branch_that_was_never_taken_is_named_with_its_operations(tmp_path: Path) -> None:
    import tensorflow as tf

    def serve(x: Any) -> Any:
        return {"y": tf.cond(tf.reduce_max(x) > 100, lambda: tf.exp(x), lambda: 2 * x)}

    (line,) = missed(serve, tmp_path / "one", X)
    assert "the branch for true, with Exp" in line
    assert missed(serve, tmp_path / "both", X, 100 * X) == []


def test_a_choice_that_was_always_the_same_is_named(tmp_path: Path) -> None:
    import tensorflow as tf

    lines = missed(lambda x: {"y": tf.where(x > 100.0, x, -x)}, tmp_path, X)
    assert [line.partition(": ")[2] for line in lines] == ["its condition was never true"]


def test_suppression_that_left_nothing_is_named(tmp_path: Path) -> None:
    import tensorflow as tf

    def serve(x: Any) -> Any:
        boxes = tf.stack([x, x, x + 1, x + 1], 1)
        return {"y": tf.image.non_max_suppression(boxes, x, 3, score_threshold=50.0)}

    (line,) = missed(serve, tmp_path, X)
    assert "it gave nothing" in line


def test_a_table_in_which_no_key_was_found_is_named(tmp_path: Path) -> None:
    import tensorflow as tf

    keys = tf.constant([7, 8], tf.int64)
    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, keys), -1)

    def serve(x: Any) -> Any:
        return {"y": module.table.lookup(tf.cast(x, tf.int64))}

    (line,) = missed(serve, tmp_path / "none", X, module=module)
    assert "no key was found" in line
    assert missed(serve, tmp_path / "some", X, X + 7, module=module) == []


def test_a_source_that_gives_nothing_but_nan_is_told_as_that() -> None:
    good, bad = np.ones(3, np.float32), np.full(3, np.nan, np.float32)
    check_finite([{"y": bad, "n": np.arange(3)}, {"y": good, "n": np.arange(3)}], "probes")
    with pytest.raises(ExamplesError, match="the source itself gives nothing but NaN and Inf on probes") as caught:
        check_finite([{"y": bad, "z": good}], "probes")
    assert caught.value.details == ("output y",)
