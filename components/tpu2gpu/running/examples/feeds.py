"""Real examples as feeds: in any form, read by the input specifications of the model that will run them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from tpu2gpu.errors import ExamplesError, UnsupportedError, UsageError
from tpu2gpu.options import did_you_mean
from tpu2gpu.running.arrays import numpy_dtype
from tpu2gpu.running.examples.box_labels import BoxFeatures, BoxLabels
from tpu2gpu.running.examples.forms.registry import find_examples
from tpu2gpu.running.examples.input_rows import InputRow
from tpu2gpu.running.examples.reading import Reading
from tpu2gpu.running.examples.rows import ExampleRow, amount, is_bytes, parse_numbers
from tpu2gpu.running.runner import TensorSpec, shape_text

Array = npt.NDArray[Any]

DEFAULT_LABEL = "label"
_LARGEST = int(np.iinfo(np.int64).max)


@attrs.frozen
class Examples:
    """Examples as feeds.

    Attributes:
        feeds: For each model input all examples, `[count, ...]`.
        labels: Their class ids, int64 `[count]`, where they have some.
        count: How many there are.
        boxes: Their ground-truth boxes, where they have some.
        notes: How they were read, for reports.
    """

    feeds: dict[str, Array] = attrs.field(eq=False)
    labels: Array | None = attrs.field(eq=False)
    count: int
    boxes: tuple[BoxLabels, ...] | None = attrs.field(default=None, eq=False)
    notes: tuple[str, ...] = ()

    def batch(self, start: int, size: int) -> dict[str, Array]:
        """Return the `size` examples from number `start` on; after the last one comes the first again."""
        chosen = np.arange(start, start + size) % self.count
        return {name: values[chosen] for name, values in self.feeds.items()}


def read_examples(
    files: Sequence[str],
    inputs: Sequence[TensorSpec],
    *,
    reading: Reading | None = None,
    label: str | None = DEFAULT_LABEL,
    boxes: BoxFeatures | None = None,
    limit: int | None = None,
) -> Examples:
    """Read examples into feeds.

    Args:
        files: Files in any form of `forms.registry.FORMS`; globs, or folders of such files.
        inputs: The model's inputs, batch dimension first; a feature of an example holds one row of its input. An input
            that parses tf.Examples takes the records themselves, unless `reading` names a feature for it. Of an image
            of any size, `[?, ?, ?, channels]`, the features `image/height` and `image/width` tell the size.
        reading: Which features feed which inputs, and how their bytes become numbers.
        label: The feature with the class id. `label` may be missing from all examples, another name may not.
        boxes: The features with the ground-truth boxes; they are not read where None.
        limit: Read no more examples than this.

    Raises:
        UsageError: The reading names an input that the model has not.
        ExamplesError: A file, an example or a feature is missing, damaged or does not fit its input.
        UnsupportedError: An input has a form that examples cannot feed.
    """
    reading = reading or Reading()
    found = find_examples(files)
    rows = itertools.islice(itertools.chain.from_iterable(it.rows(reading) for it in found), limit)
    examples = parse_examples(rows, inputs, reading=reading, label=label, boxes=boxes)
    if not examples.count:
        raise ExamplesError(f"{', '.join(files)}: no examples in there", hint="give files that hold some")
    notes = [note for it in found for note in it.form.notes(it.path, reading)]
    return attrs.evolve(examples, notes=(*dict.fromkeys(notes), *examples.notes))


def parse_examples(
    rows: Iterable[ExampleRow],
    inputs: Sequence[TensorSpec],
    *,
    reading: Reading | None = None,
    label: str | None = DEFAULT_LABEL,
    boxes: BoxFeatures | None = None,
) -> Examples:
    """Make feeds of examples that are read already.

    Raises:
        UsageError: The reading names an input that the model has not.
        ExamplesError: A feature is missing or does not fit its input.
        UnsupportedError: An input has a form that examples cannot feed.
    """
    reading = reading or Reading()
    takers = _takers(inputs, reading)
    optional = {spec.name for spec in inputs if spec.default is not None}
    columns: dict[str, list[Array]] = {taker.input: [] for taker in takers}
    labels: list[int] = []
    box_labels: list[BoxLabels] = []
    count = 0
    for row in rows:
        problems, misfits = [], []
        if not count:  # the first example tells which inputs are left to their defaults
            takers = [it for it in takers if it.is_chosen or it.input not in optional or it.feature in row.values]
        for taker in takers:
            try:
                columns[taker.input].append(taker.read(row, is_only=len(takers) == 1))
            except ExamplesError as error:
                problems.append(error.message)
                misfits.append(taker)
        try:
            if label is not None and label in row.values:
                labels.append(_label(row.values[label], label))
            if boxes is not None and (ground_truth_boxes := boxes.read(row.values)) is not None:
                box_labels.append(ground_truth_boxes)
        except ExamplesError as error:
            problems.append(error.message)
        if problems:
            raise _misfit(row, problems, misfits, label)
        count += 1
    feeds = {taker.input: taker.stack(columns[taker.input]) for taker in takers} if count else {}
    true = tuple(box_labels) if count and len(box_labels) == count else None
    notes = [note for taker in takers for note in taker.notes()]
    return Examples(feeds, _labels(labels, count, label), count, true, tuple(notes))


def _takers(inputs: Sequence[TensorSpec], reading: Reading) -> list[InputRow]:
    known = [spec.name for spec in inputs]
    for flag, given in (("feature", reading.features), ("decode", reading.decode)):
        for name, value in given.items():
            if name not in known:
                raise UsageError(
                    f"--{flag} {name}={value}: the model has no input {name}, it has {', '.join(known)}",
                    hint=did_you_mean(name, known),
                )
    rows, problems = [], []
    for spec in inputs:
        shape, dtype = spec.shape, numpy_dtype(spec.dtype)
        if not shape and spec.default is not None and spec.name not in reading.features:
            continue
        if not shape:
            problems.append(f"input {spec.name}: no batch dimension")
        elif sum(size is None for size in shape[1:]) > 1 and not _is_open_image(shape[1:]):
            problems.append(f"input {spec.name}: {shape_text(shape)}, more than one unknown size beside the batch")
        elif dtype.kind == "c":
            problems.append(f"input {spec.name}: {spec.dtype}, which a tf.Example cannot hold")
        else:
            rows.append(InputRow.of(spec, dtype, reading))
    if problems:
        raise UnsupportedError(
            "examples cannot feed this model",
            details=problems,
            hint="export a signature whose inputs are batches of one size",
        )
    return rows


def _is_open_image(shape: Sequence[int | None]) -> bool:
    """Tell whether a row is an image of any size: an unknown height, an unknown width, and channels."""
    return len(shape) == 3 and sum(size is None for size in shape) == 2 and shape[1] is None


def _misfit(row: ExampleRow, problems: list[str], misfits: list[InputRow], label: str | None) -> ExamplesError:
    """Return the error for an example that does not fit, with the flags that would make it fit, if any do."""
    present = ", ".join(f"{name} ({amount(row.values[name])})" for name in sorted(row.values)) or "no features"
    others = {name: row.values[name] for name in row.values if name != label}
    flags = [flags for taker in misfits if (flags := taker.remedy(row, others))]
    wanted = [str(taker) for taker in misfits]
    if flags and len(flags) == len(misfits):
        hint = f"it has {present}; give {' '.join(flags)}"
    elif wanted:
        hint = f"it has {present}; write examples with a feature for {', and one for '.join(wanted)}"
    else:
        hint = f"it has {present}"
    return ExamplesError(f"{row.place}: the example does not fit the model", details=problems, hint=hint)


def _label(value: Array | None, name: str) -> int:
    if value is not None and value.dtype.kind == "U":
        with suppress(ValueError):
            value = parse_numbers(value)
    if value is None or value.size != 1 or value.dtype.kind not in "iub":
        names = "; classes that are names must be numbered" if value is not None and is_bytes(value) else ""
        raise ExamplesError(f"label {name}: {amount(value)}, one integer is needed{names}")
    number = int(value.ravel()[0])
    if number > _LARGEST:
        raise ExamplesError(f"label {name}: {number}, an integer of 64 bits is needed")
    return number


def _labels(labels: list[int], count: int, label: str | None) -> Array | None:
    if labels and len(labels) == count:
        return np.asarray(labels, np.int64)
    if labels:
        raise ExamplesError(f"label {label}: {count - len(labels)} of {count} examples have none")
    if count and label not in (None, DEFAULT_LABEL):
        raise ExamplesError(f"label {label}: no example has such a feature", hint="--label names the right one")
    return None
