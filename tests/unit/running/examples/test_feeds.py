"""tf.Example records become the inputs of a model, or one clear error."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from tpu2gpu.errors import ExamplesError, UnsupportedError, UsageError
from tpu2gpu.running.examples.feeds import Examples, read_examples
from tpu2gpu.running.examples.forms.registry import find_examples
from tpu2gpu.running.examples.python_examples import as_files
from tpu2gpu.running.examples.reading import Reading
from tpu2gpu.running.runner import TensorSpec

IMAGE = TensorSpec("image", "float32", (None, 2, 2))


def example(**features) -> bytes:
    """Floats, integers or bytes by the type of the first value."""
    made = {}
    for name, values in features.items():
        kinds = {float: ("float_list", tf.train.FloatList), int: ("int64_list", tf.train.Int64List)}
        kind, cls = kinds.get(type(values[0]), ("bytes_list", tf.train.BytesList))
        made[name] = tf.train.Feature(**{kind: cls(value=values)})
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


def write(path, records, compression=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def images(count, **more):
    return [example(image=[float(i)] * 4, label=[i], **more) for i in range(count)]


def test_features_feed_the_inputs_of_the_same_name(tmp_path):
    examples = read_examples([write(tmp_path / "a", images(3))], [IMAGE])
    assert examples.count == 3
    assert examples.feeds["image"].shape == (3, 2, 2)
    assert examples.feeds["image"].dtype == np.float32
    assert examples.feeds["image"][2].tolist() == [[2, 2], [2, 2]]
    assert examples.labels.tolist() == [0, 1, 2]


def test_another_feature_can_feed_an_input(tmp_path):
    file = write(tmp_path / "a", [example(pixels=[1.0, 2.0, 3.0, 4.0])])
    examples = read_examples([file], [IMAGE], reading=Reading({"image": "pixels"}))
    assert examples.feeds["image"].tolist() == [[[1, 2], [3, 4]]]
    assert examples.labels is None


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    for name in ("eval[1].tfrecord", "eval1.tfrecord"):
        (tmp_path / name).touch()
    assert [it.path for it in find_examples([str(tmp_path / "eval[1].tfrecord")])] == [tmp_path / "eval[1].tfrecord"]
    assert [it.path for it in find_examples([str(tmp_path / "eval[12].tfrecord")])] == [tmp_path / "eval1.tfrecord"]


def test_a_name_with_a_mistake_is_told_with_what_is_near_before_anything_is_read(tmp_path):
    (tmp_path / "eval.npz").touch()
    wrong = str(tmp_path / "eva.npz")
    with pytest.raises(ExamplesError, match=r"eva\.npz: no such file; did you mean 'eval\.npz'\?"), as_files([wrong]):
        pass


def test_gzip_files_globs_and_folders(tmp_path):
    write(tmp_path / "split" / "data-0.gz", images(2), "GZIP")
    write(tmp_path / "split" / "data-1", images(1))
    (tmp_path / "split" / "_SUCCESS").touch()
    for files in ([str(tmp_path / "split")], [str(tmp_path / "split" / "data-*")]):
        assert read_examples(files, [IMAGE]).labels.tolist() == [0, 1, 0]


def test_a_file_named_twice_is_read_once(tmp_path):
    file = write(tmp_path / "a", images(2))
    assert read_examples([file, str(tmp_path / "*")], [IMAGE]).count == 2


def test_limit(tmp_path):
    assert read_examples([write(tmp_path / "a", images(5))], [IMAGE], limit=2).count == 2


def test_every_kind_of_input(tmp_path):
    file = write(tmp_path / "a", [example(half=[1.5], ids=[3, 4], small=[255], flag=[1], text=["é".encode()])])
    specs = [
        TensorSpec("half", "bfloat16", (None, 1)),
        TensorSpec("ids", "int32", (None, None)),
        TensorSpec("small", "uint8", (None, 1)),
        TensorSpec("flag", "bool", (None,)),
        TensorSpec("text", "string", (None,)),
    ]
    feeds = read_examples([file], specs).feeds
    assert feeds["half"].dtype == ml_dtypes.bfloat16
    assert feeds["ids"].tolist() == [[3, 4]]
    assert feeds["small"].tolist() == [[255]]
    assert feeds["flag"].tolist() == [True]
    assert feeds["text"].tolist() == ["é".encode()]


def test_batches_cycle_over_the_examples():
    examples = Examples({"x": np.arange(3)}, None, 3)
    assert examples.batch(2, 5)["x"].tolist() == [2, 0, 1, 2, 0]
    assert examples.batch(300, 1)["x"].tolist() == [0]


def refusal(files, specs=(IMAGE,), **options) -> str:
    with pytest.raises(ExamplesError) as refused:
        read_examples(files, specs, **options)
    return str(refused.value)


def test_a_missing_feature_is_named_with_those_that_are_there(tmp_path):
    file = write(tmp_path / "a", [example(pixels=[0.0] * 4, label=[1])])
    told = refusal([file])
    assert file in told
    assert "input image: no feature image" in told
    assert "it has label (1 integer), pixels (4 floats); give --feature image=pixels" in told


def test_a_wrong_length_is_told_with_the_shape(tmp_path):
    file = write(tmp_path / "a", [*images(1), example(image=[0.0] * 5)])
    told = refusal([file])
    assert f"{file}, record 1" in told
    assert "feature image has 5 floats, which do not fill [2, 2]" in told


def test_a_wrong_dtype_is_told(tmp_path):
    told = refusal([write(tmp_path / "a", [example(x=[1.0])])], [TensorSpec("x", "int32", (None, 1))])
    assert "feature x holds 1 float, int32 needs integers" in told
    told = refusal([write(tmp_path / "b", [example(image=[b"a", b"b"])])])
    assert "feature image holds 2 strings, float32 needs numbers" in told


def test_integers_feed_floats_that_hold_them(tmp_path):
    file = write(tmp_path / "a", [example(image=[1, 2, 3, 4])])
    assert read_examples([file], [IMAGE]).feeds["image"].tolist() == [[[1, 2], [3, 4]]]
    told = refusal([write(tmp_path / "b", [example(image=[1, 2, 3, 2**24 + 1])])])
    assert "1..1.67772e+07, more than float32 can" in told


def test_all_features_that_do_not_fit_are_told_at_once(tmp_path):
    file = write(tmp_path / "a", [example(label=[b"zero"])])
    told = refusal([file], [IMAGE, TensorSpec("mask", "int32", (None, 4))])
    assert told.count("  - ") == 3


def test_integers_that_the_input_cannot_hold(tmp_path):
    told = refusal([write(tmp_path / "a", [example(x=[300])])], [TensorSpec("x", "uint8", (None, 1))])
    assert "holds 300..300, more than uint8 can" in told


def test_floats_that_the_input_cannot_hold(tmp_path):
    told = refusal([write(tmp_path / "a", [example(x=[1e6])])], [TensorSpec("x", "float16", (None, 1))])
    assert "more than float16 can" in told


def test_examples_of_several_sizes(tmp_path):
    file = write(tmp_path / "a", [example(x=[1.0]), example(x=[1.0, 2.0])])
    assert "2 different sizes, such as [1] and [2]" in refusal([file], [TensorSpec("x", "float32", (None, None))])


def test_no_examples_at_all(tmp_path):
    assert "no examples in there" in refusal([write(tmp_path / "empty", [])])


def test_a_missing_file_is_named(tmp_path):
    write(tmp_path / "Split-train" / "a", images(1))
    told = refusal([str(tmp_path / "nothing*"), str(tmp_path)])
    assert "nothing*: no such file" in told
    assert "no files there, but the folders Split-train" in told


def test_a_damaged_record_is_named(tmp_path):
    file = write(tmp_path / "a", images(3))
    data = bytearray((tmp_path / "a").read_bytes())
    data[-8] ^= 0xFF
    (tmp_path / "a").write_bytes(data)
    assert f"{file}, record 2: damaged, or no TFRecord file" in refusal([file])


def test_a_truncated_file_is_named(tmp_path):
    file = write(tmp_path / "a", images(3))
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-5])
    assert f"{file}, record 2" in refusal([file])


def test_a_truncated_gzip_file_is_named(tmp_path):
    noise = np.random.default_rng(0).normal(size=(50, 4))
    file = write(tmp_path / "a.gz", [example(image=[float(x) for x in row]) for row in noise], "GZIP")
    data = (tmp_path / "a.gz").read_bytes()
    (tmp_path / "a.gz").write_bytes(data[: len(data) // 2])
    assert "a.gz, record" in refusal([file])


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
@pytest.mark.parametrize("name", ["data_tfrecord-00000-of-00001.gz", "data.tfrecord", "a"])
def test_compression_is_told_by_content_whatever_the_name(name, compression, tmp_path):
    file = write(tmp_path / name, images(3), compression)
    assert read_examples([file], [IMAGE]).labels.tolist() == [0, 1, 2]


def test_records_whose_length_looks_like_zlib_are_plain(tmp_path):
    text = TensorSpec("text", "string", (None,))
    for length in range(0x9C78 - 40, 0x9C78 + 40):  # 0x78 0x9c begins a zlib stream too
        record = example(text=[b"x" * length])
        if len(record) == 0x9C78:
            assert read_examples([write(tmp_path / "a", [record])], [text]).count == 1
            return
    raise AssertionError("no record has this length")


def test_the_split_eval_of_a_tfx_artifact_is_read(tmp_path):
    write(tmp_path / "Split-train" / "data_tfrecord-00000-of-00001.gz", images(5), "GZIP")
    write(tmp_path / "Split-eval" / "data_tfrecord-00000-of-00001.gz", images(2), "GZIP")
    assert read_examples([str(tmp_path)], [IMAGE]).count == 2


def test_a_record_that_is_no_example(tmp_path):
    assert "record 0: no tf.Example" in refusal([write(tmp_path / "a", [b"\xff\xff\xff"])])


def test_labels_must_be_there_when_a_name_was_chosen_and_on_all_examples_or_none(tmp_path):
    file = write(tmp_path / "a", images(2))
    assert "label lable: no example has such a feature" in refusal([file], label="lable")
    assert read_examples([file], [IMAGE], label=None).labels is None
    some = write(tmp_path / "b", [*images(2), example(image=[0.0] * 4)])
    assert "label label: 1 of 3 examples have none" in refusal([some])


def test_an_unknown_input_in_features_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'image'"):
        read_examples([write(tmp_path / "a", images(1))], [IMAGE], reading=Reading({"imag": "x"}))


ANY_SIZE = TensorSpec("image", "float32", (None, None, None, 3))


def sized(height: int, width: int, count: int = 1) -> list[bytes]:
    pixels = [float(i) for i in range(height * width * 3)]
    return [example(image=pixels, **{"image/height": [height], "image/width": [width]})] * count


def test_an_image_of_any_size_has_the_size_that_its_example_tells(tmp_path):
    feeds = read_examples([write(tmp_path / "a", sized(2, 4, 3))], [ANY_SIZE]).feeds
    assert feeds["image"].shape == (3, 2, 4, 3)
    assert feeds["image"][0, 1, 0].tolist() == [12, 13, 14]
    told = refusal([write(tmp_path / "b", sized(2, 4) + sized(4, 2))], [ANY_SIZE])
    assert "2 different sizes, such as [2, 4, 3] and [4, 2, 3]" in told
    assert "pad the examples to one size" in told


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({}, "[?, ?, 3]: feature image/height has no values, one integer above 0 is needed"),
        ({"image/height": [0], "image/width": [1]}, "feature image/height has 1 integer, one integer above 0"),
        ({"image/height": [2], "image/width": [b"1"]}, "feature image/width has 1 string, one integer"),
        ({"image/height": [2], "image/width": [2]}, "6 floats, which do not fill [2, 2, 3]"),
    ],
)
def test_a_size_that_is_missing_or_does_not_fit_is_told(tmp_path, features, message):
    file = write(tmp_path / "a", [example(image=[0.0] * 6, **features)])
    assert message in refusal([file], [ANY_SIZE])


@pytest.mark.parametrize("spec", [TensorSpec("x", "float32", ()), TensorSpec("x", "float32", (None, None, None, None))])
def test_inputs_that_examples_cannot_feed(tmp_path, spec):
    with pytest.raises(UnsupportedError):
        read_examples([write(tmp_path / "a", images(1))], [spec])
