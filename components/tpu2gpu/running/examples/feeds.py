"""Real examples as feeds: tf.Example records, read by the input specifications of the model that will run them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from tpu2gpu.errors import ExamplesError, UnsupportedError, UsageError
from tpu2gpu.options import did_you_mean
from tpu2gpu.running.arrays import is_float, numpy_dtype
from tpu2gpu.running.examples.box_labels import BoxFeatures, BoxLabels
from tpu2gpu.running.examples.records import find_files, read_records
from tpu2gpu.running.runner import TensorSpec

Array = npt.NDArray[Any]

DEFAULT_LABEL = "label"
_IMAGE_SIZE = ("image/height", "image/width")  # as TensorFlow's own datasets of images name them


@attrs.frozen
class Examples:
    """Examples as feeds.

    Attributes:
        feeds: For each model input all examples, `[count, ...]`.
        labels: Their class ids, int64 `[count]`, where they have some.
        count: How many there are.
        boxes: Their ground-truth boxes, where they have some.
    """

    feeds: dict[str, Array] = attrs.field(eq=False)
    labels: Array | None = attrs.field(eq=False)
    count: int
    boxes: tuple[BoxLabels, ...] | None = attrs.field(default=None, eq=False)

    def batch(self, start: int, size: int) -> dict[str, Array]:
        """Return the `size` examples from number `start` on; after the last one comes the first again."""
        chosen = np.arange(start, start + size) % self.count
        return {name: values[chosen] for name, values in self.feeds.items()}


def read_examples(
    files: Sequence[str],
    inputs: Sequence[TensorSpec],
    *,
    features: Mapping[str, str] | None = None,
    label: str | None = DEFAULT_LABEL,
    boxes: BoxFeatures | None = None,
    limit: int | None = None,
) -> Examples:
    """Read tf.Example records into feeds.

    Args:
        files: TFRecord files, plain or gzip (then their names end in .gz); globs, or folders of such files.
        inputs: The model's inputs, batch dimension first; a feature of an example holds one row of its input. An input
            that parses tf.Examples takes the records themselves, unless `features` names a feature for it. Of an
            image of any size, `[?, ?, ?, channels]`, the features `image/height` and `image/width` tell the size.
        features: The feature that feeds an input, where the two have different names.
        label: The feature with the class id. `label` may be missing from all examples, another name may not.
        boxes: The features with the ground-truth boxes; they are not read where None.
        limit: Read no more examples than this.

    Raises:
        UsageError: `features` names an input that the model has not.
        ExamplesError: A file, a record or a feature is missing, damaged or does not fit its input.
        UnsupportedError: An input has a form that examples cannot feed.
    """
    records = itertools.islice(read_records(find_files(files)), limit)
    found = parse_examples(records, inputs, features=features, label=label, boxes=boxes)
    if not found.count:
        raise ExamplesError(f"{', '.join(files)}: no examples in there", hint="give files that hold some")
    return found


def parse_examples(
    records: Iterable[tuple[Any, int, Any]],
    inputs: Sequence[TensorSpec],
    *,
    features: Mapping[str, str] | None = None,
    label: str | None = DEFAULT_LABEL,
    boxes: BoxFeatures | None = None,
) -> Examples:
    """Make feeds of records that are read already: file, number and tf.Example of each.

    Raises:
        UsageError: `features` names an input that the model has not.
        ExamplesError: A feature is missing or does not fit its input.
        UnsupportedError: An input has a form that examples cannot feed.
    """
    rows = _rows_for(inputs, features or {})
    columns: dict[str, list[Array]] = {row.input: [] for row in rows}
    labels: list[int] = []
    box_labels: list[BoxLabels] = []
    count = 0
    for file, number, example in records:
        values = example.features.feature
        problems = []
        for row in rows:
            try:
                columns[row.input].append(row.read(example))
            except ExamplesError as error:
                problems.append(error.message)
        if label is not None and label in values:
            kind, found = _content(values[label])
            if kind != "int64_list" or len(found) != 1:
                problems.append(f"label {label}: {_amount(kind, found)}, one int64 is needed")
            else:
                labels.append(found[0])
        try:
            if boxes is not None and (ground_truth_boxes := boxes.read(values)) is not None:
                box_labels.append(ground_truth_boxes)
        except ExamplesError as error:
            problems.append(error.message)
        if problems:
            present = ", ".join(sorted(values)) or "no features"
            raise ExamplesError(
                f"{file}, record {number}: the example does not fit the model",
                details=problems,
                hint=f"the example has {present}; --feature INPUT=FEATURE chooses",
            )
        count += 1
    feeds = {row.input: row.stack(columns[row.input]) for row in rows} if count else {}
    true = tuple(box_labels) if count and len(box_labels) == count else None
    return Examples(feeds, _labels(labels, count, label), count, true)


@attrs.frozen
class _Row:
    """One feature of an example, and the row of an input that it becomes."""

    input: str
    feature: str
    dtype: np.dtype[Any]
    kind: str  # the list of tf.train.Feature that holds such values
    shape: tuple[int | None, ...]  # without the batch dimension
    takes_records: bool = False

    def read(self, example: Any) -> Array:
        if self.takes_records:
            return _whole_record(example)
        values = example.features.feature
        if self.feature not in values:
            raise ExamplesError(f"input {self.input}: no feature {self.feature}")
        kind, found = _content(values[self.feature])
        if kind != self.kind:
            raise ExamplesError(
                f"input {self.input}: feature {self.feature} holds {_amount(kind, found)}, "
                f"{self.dtype.name if self.kind != 'bytes_list' else 'string'} needs a {self.kind}"
            )
        wanted = (*self._image_size(values), *self.shape[2:]) if _is_image(self.shape) else self.shape
        if (shape := _complete(wanted, len(found))) is None:
            raise ExamplesError(
                f"input {self.input}: feature {self.feature} has {_amount(kind, found)}, "
                f"which do not fill {_shape_text(wanted)}"
            )
        if self.kind == "bytes_list":
            texts = np.empty(len(found), object)
            texts[:] = list(found)
            return texts.reshape(shape)
        wide = np.asarray(found, np.float32 if self.kind == "float_list" else np.int64)
        return self._narrow(wide).reshape(shape)

    def _image_size(self, values: Mapping[str, Any]) -> list[int]:
        """Return the height and the width that an example tells of its image."""
        sizes = []
        for name in _IMAGE_SIZE:
            kind, found = _content(values[name]) if name in values else ("nothing", ())
            if kind != "int64_list" or len(found) != 1 or found[0] < 1:
                raise ExamplesError(
                    f"input {self.input}: {_shape_text(self.shape)}: feature {name} has {_amount(kind, found)}, one "
                    "int64 above 0 is needed to tell the image's size"
                )
            sizes.append(int(found[0]))
        return sizes

    def _narrow(self, wide: Array) -> Array:
        with np.errstate(over="ignore"):
            narrow = wide.astype(self.dtype)
        kept = np.isfinite(narrow.astype(np.float32)) if self.kind == "float_list" else narrow.astype(np.int64) == wide
        if not np.all(kept | ~np.isfinite(wide)):
            raise ExamplesError(
                f"input {self.input}: feature {self.feature} holds {wide.min():g}..{wide.max():g}, "
                f"more than {self.dtype.name} can"
            )
        return narrow

    def stack(self, rows: list[Array]) -> Array:
        shapes = sorted({row.shape for row in rows})
        if len(shapes) > 1:
            raise ExamplesError(
                f"feature {self.feature}: {len(shapes)} different sizes, such as "
                f"{_shape_text(shapes[0])} and {_shape_text(shapes[-1])}",
                hint="pad the examples to one size, or give files whose examples have one size",
            )
        return np.stack(rows)


def _rows_for(inputs: Sequence[TensorSpec], features: Mapping[str, str]) -> list[_Row]:
    known = [spec.name for spec in inputs]
    for name in features:
        if name not in known:
            raise UsageError(
                f"--feature {name}={features[name]}: the model has no input {name}, it has {', '.join(known)}",
                hint=did_you_mean(name, known),
            )
    rows, problems = [], []
    for spec in inputs:
        shape = spec.shape
        dtype = numpy_dtype(spec.dtype)
        if not shape:
            problems.append(f"input {spec.name}: no batch dimension")
        elif sum(size is None for size in shape[1:]) > 1 and not _is_image(shape[1:]):
            problems.append(f"input {spec.name}: {_shape_text(shape)}, more than one unknown size beside the batch")
        elif dtype.kind == "c":
            problems.append(f"input {spec.name}: {spec.dtype}, which a tf.Example cannot hold")
        else:
            feature = features.get(spec.name, spec.name)
            whole = spec.takes_records and spec.name not in features
            rows.append(_Row(spec.name, feature, dtype, _list_for(dtype), shape[1:], whole))
    if problems:
        raise UnsupportedError(
            "examples cannot feed this model",
            details=problems,
            hint="export a signature whose inputs are batches of one size",
        )
    return rows


def _whole_record(example: Any) -> Array:
    """Return a record itself, for an input that parses it."""
    record = np.empty((), object)
    record[()] = example.SerializeToString()
    return record


def _is_image(shape: Sequence[int | None]) -> bool:
    """Tell whether a row is an image of any size: an unknown height, an unknown width, and channels."""
    return len(shape) == 3 and shape[0] is shape[1] is None and shape[2] is not None


def _list_for(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "O":
        return "bytes_list"
    return "float_list" if is_float(dtype) else "int64_list"


def _content(feature: Any) -> tuple[str, Sequence[Any]]:
    kind = feature.WhichOneof("kind") or "nothing"
    return kind, () if kind == "nothing" else getattr(feature, kind).value


def _amount(kind: str, found: Sequence[Any]) -> str:
    """Return `3 values in a float_list`."""
    return "no values" if kind == "nothing" else f"{len(found)} value{'s' * (len(found) != 1)} in a {kind}"


def _shape_text(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _complete(shape: tuple[int | None, ...], length: int) -> tuple[int, ...] | None:
    """Return the shape with its one unknown size filled in, or None where `length` values do not fill it."""
    known = int(np.prod([size for size in shape if size is not None]))
    if None not in shape:
        return tuple(size for size in shape if size is not None) if known == length else None
    if known == 0 or length % known:
        return None
    return tuple(length // known if size is None else size for size in shape)


def _labels(labels: list[int], count: int, label: str | None) -> Array | None:
    if labels and len(labels) == count:
        return np.asarray(labels, np.int64)
    if labels:
        raise ExamplesError(f"label {label}: {count - len(labels)} of {count} examples have none")
    if count and label not in (None, DEFAULT_LABEL):
        raise ExamplesError(f"label {label}: no example has such a feature", hint="--label names the right one")
    return None
