"""Examples that a Python program hands over, as the file that steps read in their processes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tpu2gpu.errors import ExamplesError
from tpu2gpu.storage.unfinished import scratch

if TYPE_CHECKING:
    from tpu2gpu.running.arrays import Array

ExamplesLike = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, Any] | Iterable[Any]
"""Files, folders and globs; arrays by name; or an iterable, such as a tf.data.Dataset, of single examples or batches.

An example is a mapping of values by the names of inputs, with `label` among them where there are labels, or a pair of
such a mapping and a label; in the place of the mapping the value of a model's only input will do. Batches are told from
single examples by their labels, which are lists, or by the dataset's own specification.
"""

MOST = 50_000
_VALUE, _LABEL = "value", "label"


def is_nothing(examples: ExamplesLike | None) -> bool:
    """Tell whether no examples are given, without asking an iterable for its first."""
    return examples is None or (isinstance(examples, Sized) and not len(examples))


@contextmanager
def as_files(examples: ExamplesLike, limit: int | None = None) -> Iterator[tuple[str, ...]]:
    """Give examples as files: those that are named, or one that holds what Python handed over while the block runs.

    Args:
        examples: Paths, arrays, or an iterable.
        limit: Take no more than so many of an iterable, which may be endless; 50,000 when not given.

    Raises:
        ExamplesError: A path names nothing, the iterable gives something else, or its examples differ in their values'
            names or sizes.
    """
    if isinstance(examples, str | os.PathLike):
        examples = (examples,)
    if isinstance(examples, Sequence) and all(isinstance(it, str | os.PathLike) for it in examples):
        named = tuple(os.fspath(it) for it in examples)
        if named:
            from tpu2gpu.running.examples.forms.registry import find_paths

            find_paths(named)  # a name with a mistake is told before anything that takes time
        yield named
        return
    from tpu2gpu.running.arrays import save_arrays

    arrays = _columns(examples) if isinstance(examples, Mapping) else _gathered(examples, limit or MOST)
    with scratch() as folder:
        path = folder / "examples.npz"
        save_arrays(path, arrays)
        yield (str(path),)


def _columns(examples: Mapping[str, Any]) -> dict[str, Array]:
    return {str(name): _array(values) for name, values in examples.items()}


def _gathered(examples: Iterable[Any], limit: int) -> dict[str, Array]:
    rows: list[dict[str, Array]] = []
    batched = _is_batched(examples)
    for item in examples:
        row = _named(item)
        if batched is None:
            batched = _LABEL in row and row[_LABEL].ndim > 0 and row[_LABEL].size > 1
        rows += _unbatched(row) if batched else [row]
        if len(rows) >= limit:
            break
    rows = rows[:limit]
    if not rows:
        raise ExamplesError("examples: the iterable gives none")
    names = set(rows[0])
    for number, row in enumerate(rows):
        if set(row) != names:
            told = ", ".join(sorted(row))
            raise ExamplesError(f"examples: number {number} has {told}, the first has {', '.join(sorted(names))}")
    return {name: _stack(name, [row[name] for row in rows]) for name in rows[0]}


def _is_batched(examples: Iterable[Any]) -> bool | None:
    """Tell it from the specification of a tf.data.Dataset; None of any other iterable."""
    specification = getattr(examples, "element_spec", None)
    if specification is None:
        return None
    import tensorflow as tf

    shapes = [spec.shape for spec in tf.nest.flatten(specification)]
    open_ended = all(shape.rank and shape[0] is None for shape in shapes)
    same = len({shape[0] for shape in shapes if shape.rank}) == 1 and all(shape.rank for shape in shapes)
    return open_ended or (same and len(shapes) > 1)


def _named(item: Any) -> dict[str, Array]:
    label: Any = None
    if isinstance(item, tuple):
        if len(item) != 2:
            raise ExamplesError(f"examples: {len(item)} values in a tuple; an input's value and a label are needed")
        item, label = item
    if isinstance(item, str | list | int | float) or item is None:
        raise ExamplesError(
            f"examples: {type(item).__name__} is no example",
            hint="give mappings of values by input, with label among them, or pairs of such a mapping and a label",
        )
    values = dict(item) if isinstance(item, Mapping) else {_VALUE: item}
    if label is not None:
        values[_LABEL] = label
    return {str(name): _array(value) for name, value in values.items()}


def _unbatched(row: Mapping[str, Array]) -> list[dict[str, Array]]:
    import numpy as np

    count = len(next(iter(row.values())))
    return [{name: np.asarray(values[number]) for name, values in row.items()} for number in range(count)]


def _array(value: Any) -> Array:
    import numpy as np

    array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    if array.dtype.kind != "O" or all(isinstance(it, str | bytes) for it in itertools.islice(array.flat, 100)):
        return array
    raise ExamplesError(f"examples: {type(value).__name__} holds neither numbers nor strings of one size")


def _stack(name: str, rows: list[Array]) -> Array:
    import numpy as np

    from tpu2gpu.running.examples.rows import text_array

    shapes = sorted({row.shape for row in rows})
    if len(shapes) > 1:
        raise ExamplesError(
            f"examples: {name} has different sizes, such as {list(shapes[0])} and {list(shapes[-1])}",
            hint="pad the examples to one size",
        )
    if rows[0].dtype.kind in "OSU":
        return text_array([it for row in rows for it in row.ravel().tolist()]).reshape(len(rows), *shapes[0])
    return np.stack(rows)
