"""Every form of examples gives the same feeds, and an example that does not fit is told with the flags that help."""

from __future__ import annotations

import csv
import gzip
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tpu2gpu.errors import ExamplesError, InputError, UsageError
from tpu2gpu.running.examples.feeds import read_examples
from tpu2gpu.running.examples.python_examples import as_files
from tpu2gpu.running.examples.reading import ExampleOptions, Reading
from tpu2gpu.running.runner import TensorSpec

RNG = np.random.default_rng(0)
IMAGE = TensorSpec("image", "float32", (None, 4, 6, 3))
POINT = TensorSpec("point", "float32", (None, 2))
WORD = TensorSpec("word", "string", (None,))
POINTS, WORDS, LABELS = np.arange(10, dtype=np.float32).reshape(5, 2), ["a", "bé", "c", "", "e"], [3, 1, 4, 1, 5]


def write_rows(path: Path, rows: list[dict[str, list[Any]]], compression: str = "") -> None:
    """Write tf.Examples: floats, integers or bytes, by the type of each feature's first value."""
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for row in rows:
            example = tf.train.Example()
            for name, values in row.items():
                kind = {float: "float_list", int: "int64_list"}.get(type(values[0]), "bytes_list")
                getattr(example.features.feature[name], kind).value.extend(values)
            writer.write(example.SerializeToString())


def _npz(folder: Path) -> str:
    np.savez(folder / "e.npz", point=POINTS.astype(np.float64), word=np.array(WORDS), label=np.array(LABELS, np.uint8))
    return "e.npz"


def _csv(folder: Path) -> str:
    with (folder / "e.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["word", "point", "label"])
        rows.writerows([w or " ", " ".join(map(str, p)), n] for w, p, n in zip(WORDS, POINTS, LABELS, strict=True))
    return "e.csv"


def _csv_gz(folder: Path) -> str:
    (folder / "e.csv.gz").write_bytes(gzip.compress((folder / _csv(folder)).read_bytes()))
    return "e.csv.gz"


def _parquet(folder: Path) -> str:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"point": [row.tolist() for row in POINTS], "word": WORDS, "label": LABELS})
    parquet.write_table(table, folder / "e")
    return "e"


def _records(compression: str) -> Any:
    def write(folder: Path) -> str:
        rows = [
            {"point": p.tolist(), "word": [w.encode()], "label": [n]}
            for w, p, n in zip(WORDS, POINTS, LABELS, strict=True)
        ]
        write_rows(folder / "e", rows, compression)
        return "e"

    return write


FORMS = {
    "npz": _npz,
    "csv": _csv,
    "csv.gz": _csv_gz,
    "parquet": _parquet,
    "plain": _records(""),
    "gzip": _records("GZIP"),
    "zlib": _records("ZLIB"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_feeds_and_labels(form: str, tmp_path: Path) -> None:
    file = str(tmp_path / FORMS[form](tmp_path))
    found = read_examples([file], [POINT, WORD])
    np.testing.assert_array_equal(found.feeds["point"], POINTS)
    assert [it.decode().strip() for it in found.feeds["word"].tolist()] == WORDS
    assert found.labels is not None
    assert found.labels.tolist() == LABELS
    assert read_examples([file], [POINT], limit=2).count == 2


@pytest.mark.parametrize("form", FORMS)
def test_every_form_feeds_an_input_that_parses_records(form: str, tmp_path: Path) -> None:
    spec = TensorSpec("examples", "string", (None,), takes_records=True)
    found = read_examples([str(tmp_path / FORMS[form](tmp_path))], [spec])
    features = {
        "point": tf.io.FixedLenFeature([2], tf.float32),
        "word": tf.io.FixedLenFeature([], tf.string, ""),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    parsed = tf.io.parse_example(found.feeds["examples"].astype(object).tolist(), features)
    np.testing.assert_array_equal(parsed["point"], POINTS)
    assert parsed["label"].numpy().tolist() == LABELS


def test_one_array_feeds_the_only_input_whatever_it_is_called(tmp_path: Path) -> None:
    np.save(tmp_path / "x_test.npy", POINTS)
    np.savez(tmp_path / "test.npz", x=POINTS, y=LABELS)
    assert read_examples([str(tmp_path / "x_test.npy")], [POINT]).feeds["point"].shape == (5, 2)
    found = read_examples([str(tmp_path / "test.npz")], [POINT], label="y")
    assert found.labels is not None
    assert found.labels.tolist() == LABELS


def test_arrays_take_only_the_shape_of_the_input_up_to_sizes_of_one(tmp_path: Path) -> None:
    spec = TensorSpec("image", "float32", (None, 4, 4, 1))
    np.savez(tmp_path / "a.npz", image=np.zeros((3, 4, 4), np.uint8))
    assert read_examples([str(tmp_path / "a.npz")], [spec]).feeds["image"].shape == (3, 4, 4, 1)
    np.savez(tmp_path / "b.npz", image=np.zeros((3, 2, 8), np.uint8))
    with pytest.raises(ExamplesError, match=r"has 16 integers \[2, 8\], which do not fill \[4, 4, 1\]"):
        read_examples([str(tmp_path / "b.npz")], [spec])


def test_arrays_of_different_lengths_and_python_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3), y=np.zeros(4))
    with pytest.raises(ExamplesError, match="different numbers of examples"):
        read_examples([str(tmp_path / "a.npz")], [POINT])
    np.save(tmp_path / "b.npy", np.array([{}], object))
    with pytest.raises(InputError, match="holds Python objects"):
        read_examples([str(tmp_path / "b.npy")], [POINT])


def _images(folder: Path, size: tuple[int, int] = (4, 6), suffix: str = "png") -> Path:
    for number, name in enumerate(["dog", "cat", "cat", "emu"]):
        path = folder / name / f"{number}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = RNG.integers(0, 256, (*size, 3), np.uint8)
        encode = tf.io.encode_png if suffix == "png" else tf.io.encode_jpeg
        path.write_bytes(encode(pixels).numpy())
    return folder


def test_images_by_class_are_decoded_and_labelled_in_the_order_of_the_names(tmp_path: Path) -> None:
    folder = _images(tmp_path / "eval")
    found = read_examples([str(folder)], [IMAGE], reading=Reading(scale="unit"))
    wanted = tf.io.decode_png((folder / "cat" / "1.png").read_bytes()).numpy().astype(np.float32) / 255
    np.testing.assert_allclose(found.feeds["image"][0], wanted, rtol=1e-6)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 0, 1, 2]
    assert found.notes == (
        "classes in the order of their names: 0 = cat, 1 = dog, 2 = emu",
        "input image: images decoded by TensorFlow, pixels from 0 to 1",
    )


@pytest.mark.parametrize(("method", "crop"), [("stretch", False), ("crop", True)])
def test_images_are_resized_as_keras_resizes_them(method: str, crop: bool, tmp_path: Path) -> None:
    import keras

    folder = _images(tmp_path / "eval", (31, 17))
    found = read_examples([str(folder)], [IMAGE], reading=Reading(resize=method))
    keras_reads = keras.utils.image_dataset_from_directory(
        folder, image_size=(4, 6), crop_to_aspect_ratio=crop, shuffle=False, verbose=False
    )
    wanted, labels = next(iter(keras_reads))
    assert found.labels is not None
    assert found.labels.tolist() == labels.numpy().tolist()
    np.testing.assert_allclose(found.feeds["image"], wanted.numpy(), atol=1.0)


def test_images_of_another_size_name_the_flag_that_brings_them_to_the_inputs(tmp_path: Path) -> None:
    folder = _images(tmp_path / "eval", (31, 17), "jpg")
    reading = _follow([str(folder)], [IMAGE], Reading(), "the image is 31x17, the input takes 4x6")
    assert reading.resize == "crop"


def test_images_of_any_size_are_brought_to_the_one_that_is_named(tmp_path: Path) -> None:
    spec = TensorSpec("image", "uint8", (None, None, None, 3))
    folder = _images(tmp_path / "eval", (31, 17))
    assert read_examples([str(folder)], [spec], reading=Reading(resize="pad:8x9")).feeds["image"].shape == (4, 8, 9, 3)
    first = TensorSpec("image", "float32", (None, 3, 4, 6))
    feeds = read_examples([str(folder)], [first], reading=Reading(resize="crop", scale="imagenet")).feeds
    assert feeds["image"].shape == (4, 3, 4, 6)


def test_a_table_beside_the_images_tells_their_labels(tmp_path: Path) -> None:
    folder = _images(tmp_path / "eval")
    for number, path in enumerate(sorted(folder.glob("*/*.png"))):
        path.rename(folder / f"{number}.png")
    for name in ("cat", "dog", "emu"):
        (folder / name).rmdir()
    assert read_examples([str(folder)], [IMAGE]).labels is None
    (folder / "labels.csv").write_text("file,label\n0.png,7\n1.png,2\n2,9\n3.png,0\n")
    labels = read_examples([str(folder)], [IMAGE]).labels
    assert labels is not None
    assert labels.tolist() == [7, 2, 9, 0]
    (tmp_path / "other.csv").write_text("0.png,zebra\n1.png,ape\n2.png,ape\n")
    with pytest.raises(ExamplesError, match=r"1 of 4 images have no label there, such as 3\.png"):
        read_examples([str(folder)], [IMAGE], reading=Reading(labels=str(tmp_path / "other.csv")))


def test_images_feed_an_input_of_strings_as_they_are(tmp_path: Path) -> None:
    folder = _images(tmp_path / "eval")
    found = read_examples([str(folder)], [WORD])
    assert found.feeds["word"][0] == (folder / "cat" / "1.png").read_bytes()


# ---------------------------------------------------------------------------------------------- advice


def _follow(files: list[str], specs: list[TensorSpec], reading: Reading, message: str) -> Reading:
    """Check a refusal, take the flags that it names first, and return the reading with which it works."""
    with pytest.raises(ExamplesError, match=re.escape(message)) as refused:
        read_examples(files, specs, reading=reading)
    words = shlex.split(refused.value.hint.rpartition("; give ")[2].split(" or ")[0])
    assert words
    given: dict[str, Any] = {"feature": [], "decode": [], "resize": reading.resize, "scale": reading.scale}
    for flag, value in zip(words[::2], words[1::2], strict=True):
        name = flag.removeprefix("--")
        given[name] = [*given[name], value] if isinstance(given[name], list) else value
    found = ExampleOptions(**given).reading()
    assert read_examples(files, specs, reading=found).count
    return found


def _jpeg(size: tuple[int, int] = (4, 6)) -> bytes:
    return bytes(tf.io.encode_jpeg(RNG.integers(0, 256, (*size, 3), np.uint8)).numpy())


@pytest.mark.parametrize(
    ("features", "spec", "message"),
    [
        ({"image": [_jpeg()]}, IMAGE, "feature image holds a JPEG file, float32 needs numbers"),
        ({"image/encoded": [_jpeg()]}, IMAGE, "no feature image"),
        ({"image_raw": [_jpeg((9, 5))], "name": [b"x"]}, IMAGE, "no feature image"),
        ({"raw": [bytes(72)]}, IMAGE, "no feature image"),
        ({"raw": [bytes(72 * 4)]}, IMAGE, "no feature image"),
        ({"pixels": [0.5] * 72, "image": [b"a.jpg"]}, IMAGE, "feature image holds 1 string, float32 needs numbers"),
        ({"text": [b"hello"]}, WORD, "no feature word"),
        ({f"x{number}": [1.0] for number in range(2)}, POINT, "no feature point"),
    ],
)
def test_the_flags_that_an_error_advises_work(
    features: dict[str, Any], spec: TensorSpec, message: str, tmp_path: Path
) -> None:
    write_rows(tmp_path / "e", [{**features, "label": [1]}] * 3)
    _follow([str(tmp_path / "e")], [spec], Reading(), message)


def test_nothing_is_advised_where_nothing_helps(tmp_path: Path) -> None:
    write_rows(tmp_path / "e", [{"a": [1.0], "image": [b"not an image"]}])
    with pytest.raises(ExamplesError, match="holds 1 string") as refused:
        read_examples([str(tmp_path / "e")], [IMAGE])
    assert refused.value.hint == (
        "it has a (1 float), image (1 string); write examples with a feature for image: float32 [4, 6, 3]"
    )


def test_serialized_tensors_are_read(tmp_path: Path) -> None:
    rows = [{"point": [tf.io.serialize_tensor(tf.constant(row)).numpy()]} for row in POINTS]
    write_rows(tmp_path / "e", rows)
    found = read_examples([str(tmp_path / "e")], [POINT], reading=Reading(decode={"point": "tensor"}))
    np.testing.assert_array_equal(found.feeds["point"], POINTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decode": ("image=jpg",)}, "--decode image=jpg: not one of image, tensor"),
        ({"resize": "crop:224by224"}, "--resize crop:224by224: must be stretch, crop, pad"),
        ({"resize": "crp"}, "did you mean 'crop'"),
        ({"scale": "zero"}, "--scale zero: not one of none, unit, signed, imagenet"),
        ({"feature": ("image",)}, "--feature image: must be INPUT=FEATURE"),
    ],
)
def test_options_of_another_form_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        ExampleOptions(**options)


# ---------------------------------------------------------------------------------------------- Python


def _dataset(batch: int = 0) -> Any:
    dataset = tf.data.Dataset.from_tensor_slices(({"point": POINTS, "word": WORDS}, LABELS))
    return dataset.batch(batch) if batch else dataset


@pytest.mark.parametrize(
    "given",
    [
        {"point": POINTS, "word": WORDS, "label": LABELS},
        [{"point": p, "word": w, "label": n} for p, w, n in zip(POINTS, WORDS, LABELS, strict=True)],
        [
            ({"point": POINTS[:3], "word": WORDS[:3]}, LABELS[:3]),
            ({"point": POINTS[3:], "word": WORDS[3:]}, LABELS[3:]),
        ],
        _dataset(),
        _dataset(2),
    ],
    ids=["columns", "rows", "batches", "dataset", "batched dataset"],
)
def test_python_hands_over_columns_rows_or_batches(given: Any) -> None:
    with as_files(given) as files:
        found = read_examples(files, [POINT, WORD])
    np.testing.assert_array_equal(found.feeds["point"], POINTS)
    assert [it.decode() for it in found.feeds["word"].tolist()] == WORDS
    assert found.labels is not None
    assert found.labels.tolist() == LABELS


def test_an_endless_iterable_is_taken_up_to_the_limit() -> None:
    import itertools

    with as_files((POINTS[0] for _ in itertools.count()), 7) as files:
        assert read_examples(files, [POINT]).count == 7


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1, 2], "int is no example"),
        ([{"a": 1}, {"b": 1}], "number 1 has b, the first has a"),
        ([np.zeros(2), np.zeros(3)], "different sizes"),
        (iter(()), "the iterable gives none"),
        ([(1, 2, 3)], "3 values in a tuple"),
    ],
)
def test_what_is_no_example_is_told(given: Any, message: str) -> None:
    with pytest.raises(ExamplesError, match=message), as_files(given):
        pass
