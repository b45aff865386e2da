"""The values that inputs are made for, found in graphs that TensorFlow wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.running.examples.probes.domain import Domain
from tpu2gpu.running.examples.probes.drawing import EDGES, SIGNED, STRUCTURED, TYPICAL, WIDE
from tpu2gpu.running.examples.probes.find_domains import find_domains
from tpu2gpu.running.examples.probes.probes import Probes, probe_model

Serve = Callable[..., Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Save a function of named inputs and read the model back."""
    import tensorflow as tf

    def save(serve: Serve, *, module: Any = None, **inputs: tuple[list[int | None], Any]) -> Any:
        folder = tmp_path_factory.mktemp("model") / "source"
        specs = [tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in inputs.items()]
        module = module or tf.Module()
        tf.saved_model.save(module, str(folder), signatures=tf.function(serve, input_signature=specs))
        return read_saved_model(folder)

    return save


def domain(model: Any) -> Domain:
    (found,) = find_domains(model, "serving_default").values()
    return found


def values(probes: Probes, kind: str, name: str = "x") -> Any:
    return np.concatenate([probe.feeds[name].ravel() for probe in probes.batches if probe.kind == kind])


def test_an_index_of_a_table_reaches_all_of_its_rows_and_no_further(saved: Callable[..., Any]) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.table = tf.Variable(tf.zeros([1000, 2]))
    model = saved(lambda x: {"y": tf.gather(module.table, x)}, module=module, x=([None, 40], tf.int32))
    assert (domain(model).low, domain(model).high) == (0, 999)
    probes = probe_model(model, "serving_default")
    assert values(probes, TYPICAL).max() > 500
    assert set(values(probes, EDGES)) == {0, 1, 999}
    assert all(array.min() >= 0 and array.max() < 1000 for probe in probes.batches for array in probe.feeds.values())


def test_classes_of_a_one_hot_go_beyond_both_of_its_ends(saved: Callable[..., Any]) -> None:
    import tensorflow as tf

    model = saved(lambda x: {"y": tf.one_hot(x, 4)}, x=([None, 30], tf.int32))
    found = set(values(probe_model(model, "serving_default"), EDGES))
    assert {-4, -1, 0, 3, 4} <= found


def test_whole_numbers_that_are_divided_are_negative_too(saved: Callable[..., Any]) -> None:
    import tensorflow as tf

    model = saved(lambda x: {"y": x // 3}, x=([None, 30], tf.int32))
    assert {-4, -3, -1, 1, 3, 4} <= set(values(probe_model(model, "serving_default"), EDGES))


@pytest.mark.parametrize("scaled", ["255", "127.5", "ImageNet"])
def test_pixels_go_to_255(saved: Callable[..., Any], scaled: str) -> None:
    import tensorflow as tf

    def serve(x: Any) -> Any:
        if scaled == "ImageNet":
            return {"y": (tf.cast(x, tf.float32) / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]}
        return {"y": x / 255.0 if scaled == "255" else x / 127.5 - 1.0}

    model = saved(serve, x=([None, 8, 8, 3], tf.uint8 if scaled == "ImageNet" else tf.float32))
    assert domain(model).is_image
    probes = probe_model(model, "serving_default")
    assert 240 < values(probes, TYPICAL).max() <= 280
    assert 240 < values(probes, STRUCTURED).max() <= 280


def test_features_that_are_normalised_lie_around_their_means(saved: Callable[..., Any]) -> None:
    import tensorflow as tf

    model = saved(lambda x: {"y": (x - [100.0, 300.0]) / [5.0, 5.0]}, x=([None, 2], tf.float32))
    ((low, high),) = domain(model).ranges
    assert low == pytest.approx(100 - 12.5)
    assert high == pytest.approx(300 + 12.5)


def test_a_logarithm_is_given_no_negative_number(saved: Callable[..., Any]) -> None:
    import tensorflow as tf

    model = saved(lambda x: {"y": tf.math.log(x + 1.0)}, x=([None, 50], tf.float32))
    probes = probe_model(model, "serving_default")
    for kind in (TYPICAL, SIGNED, EDGES, WIDE):
        assert values(probes, kind).min() >= -1, kind
    assert values(probes, SIGNED).min() < 0


def test_what_a_branch_compares_is_met_on_both_sides(saved: Callable[..., Any]) -> None:
    import tensorflow as tf

    model = saved(lambda x: {"y": tf.where(x > 7.5, x, -x)}, x=([None, 50], tf.float32))
    found = values(probe_model(model, "serving_default"), EDGES)
    assert (found > 7.5).any()
    assert (found == 7.5).any()
    assert (found < 7.5).any()


def test_values_are_followed_into_branches_and_loops(saved: Callable[..., Any]) -> None:
    import tensorflow as tf

    table = tf.constant(np.arange(50, dtype=np.float32))

    def serve(x: Any, flag: Any) -> Any:
        return {
            "y": tf.cond(flag, lambda: tf.gather(table, x), lambda: tf.zeros_like(x, tf.float32)),
        }

    model = saved(serve, x=([None], tf.int32), flag=([], tf.bool))
    found = find_domains(model, "serving_default")["x"]
    assert (found.low, found.high) == (0, 49)
    mapped = saved(
        lambda x: {"y": tf.map_fn(lambda row: tf.gather(table, row), x, fn_output_signature=tf.float32)},
        x=([None], tf.int32),
    )
    assert (domain(mapped).low, domain(mapped).high) == (0, 49)


def test_the_words_of_a_vocabulary_are_found_in_it_and_others_are_not(saved: Callable[..., Any]) -> None:
    import tensorflow as tf

    words = tf.constant(["red", "green", "blue"])
    initializer = tf.lookup.KeyValueTensorInitializer(words, tf.range(3, dtype=tf.int64))
    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(initializer, -1)
    model = saved(lambda x: {"y": module.table.lookup(x)}, module=module, x=([None, 20], tf.string))
    probes = probe_model(model, "serving_default")
    assert set(values(probes, TYPICAL)) == {b"red", b"green", b"blue"}
    assert set(values(probes, EDGES)) - {b"red", b"green", b"blue"}


@pytest.mark.parametrize("parser", ["batch", "each", "version 1"])
def test_parsed_strings_are_tf_examples_with_the_features_that_are_asked_for(
    saved: Callable[..., Any], parser: str
) -> None:
    import tensorflow as tf

    specs = {
        "miles": tf.io.FixedLenFeature([2], tf.float32),
        "word": tf.io.VarLenFeature(tf.string),
        "image": tf.io.FixedLenFeature([], tf.string),
    }

    def serve(x: Any) -> Any:
        if parser == "each":
            return {"y": tf.map_fn(lambda it: _read(tf.io.parse_single_example(it, specs)), x, tf.float32)}
        parse = tf.compat.v1.io.parse_example if parser == "version 1" else tf.io.parse_example
        features = parse(x, specs)
        images = tf.map_fn(lambda it: tf.reduce_mean(_pixels(it)), features["image"], fn_output_signature=tf.float32)
        return {"y": tf.math.log(features["miles"]), "z": images, "w": tf.sparse.to_dense(features["word"])}

    def _pixels(file: Any) -> Any:
        return tf.cast(tf.io.decode_jpeg(file, channels=3), tf.float32)

    def _read(features: Any) -> Any:
        return tf.reduce_mean(_pixels(features["image"])) + tf.reduce_sum(tf.math.log(features["miles"]))

    model = saved(serve, x=([None], tf.string))
    probes = probe_model(model, "serving_default")
    for probe in probes.batches:
        parsed = tf.io.parse_example(tf.constant(probe.feeds["x"]), specs)  # TensorFlow refuses what does not fit
        assert parsed["miles"].shape[1:] == [2]
        assert (parsed["miles"].numpy() >= 0).all()  # a logarithm is taken
        assert tf.io.decode_jpeg(parsed["image"][0]).shape[-1] == 3


def test_the_same_seed_makes_the_same_probes_and_the_report_tells_them(saved: Callable[..., Any]) -> None:
    import tensorflow as tf

    model = saved(lambda x: {"y": x * 2.0}, x=([None, None, 3], tf.float32))
    first, second = (probe_model(model, "serving_default") for _ in range(2))
    for one, other in zip(first.batches, second.batches, strict=True):
        np.testing.assert_array_equal(one.feeds["x"], other.feeds["x"])
    assert first.origin == "synthetic inputs (seed 0: 3 typical, 1 signed, 1 edges, 1 wide batches)"
    shapes = [batch["shapes"]["x"] for batch in first.describe()["batches"]]
    assert len({shape[1] for shape in shapes}) == 2  # the unknown size has two values
    assert len({shape[0] for shape in shapes}) == 3
