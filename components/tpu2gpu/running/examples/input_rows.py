"""One row of a model's input, made of an example's features."""

from __future__ import annotations

import fnmatch
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from tpu2gpu.errors import ExamplesError
from tpu2gpu.running.arrays import Array, is_float
from tpu2gpu.running.examples.decoding import decode
from tpu2gpu.running.examples.reading import IMAGE, Reading
from tpu2gpu.running.examples.rows import ExampleRow, amount, as_bytes, is_bytes, parse_numbers, text_array
from tpu2gpu.running.runner import TensorSpec, shape_text

_NUMBERED = re.compile(r"(.*?\D)\d+")  # columns such as pixel0 to pixel63
_MANY = 16
_IMAGE_SIZE = ("image/height", "image/width")  # as TensorFlow's own datasets of images name them


@attrs.frozen
class InputRow:
    """An input, and the features of which its rows are made.

    Attributes:
        input: Its name.
        feature: The feature that feeds it, or a pattern of several.
        dtype: Its type; objects for strings.
        shape: A row's shape, without the batch.
        takes_records: Whether it takes whole examples, serialized.
        decode: What its strings hold: `image`, `tensor` or a type of raw numbers; nothing where they stay.
        reading: How images are resized and scaled.
        is_chosen: Whether an option names its feature.
        decoded: Whether images were decoded, for the report.
    """

    input: str
    feature: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]
    takes_records: bool
    decode: str
    reading: Reading
    is_chosen: bool
    decoded: list[str] = attrs.field(factory=list, eq=False)

    @classmethod
    def of(cls, spec: TensorSpec, dtype: np.dtype[Any], reading: Reading) -> InputRow:
        """Say how an input is fed."""
        chosen = spec.name in reading.features
        return cls(
            spec.name,
            reading.features.get(spec.name, spec.name),
            dtype,
            spec.shape[1:],
            spec.takes_records and not chosen,
            reading.decode.get(spec.name, ""),
            reading,
            chosen,
        )

    def __str__(self) -> str:
        """Return `image: float32 [2, 2]`."""
        return f"{self.input}: {'string' if self._is_string else self.dtype.name} {shape_text(self.shape)}"

    def read(self, row: ExampleRow, *, is_only: bool = False) -> Array:
        """Make the input's row of an example.

        Raises:
            ExamplesError: The feature is missing, or does not fit.
        """
        if self.takes_records:
            return _string(row.serialize())
        name = row.sole if is_only and row.sole and not self.is_chosen else self.feature
        value = self._find(row.values, name)
        return self._fit(value, name, row)

    def stack(self, rows: list[Array]) -> Array:
        """Put the rows of all examples together.

        Raises:
            ExamplesError: They have different sizes.
        """
        shapes = sorted({row.shape for row in rows})
        if len(shapes) > 1:
            way = "give --resize crop:224x224, or another size" if self.decoded else "pad the examples to one size"
            raise ExamplesError(
                f"feature {self.feature}: {len(shapes)} different sizes, such as "
                f"{shape_text(shapes[0])} and {shape_text(shapes[-1])}",
                hint=f"{way}, or give files whose examples have one size",
            )
        return np.stack(rows)

    def notes(self) -> list[str]:
        """Tell how images became numbers."""
        if not self.decoded:
            return []
        how = {"": "", "stretch": ", stretched", "crop": ", cropped", "pad": ", padded"}[self.reading.method]
        scales = {
            "none": "from 0 to 255",
            "unit": "from 0 to 1",
            "signed": "from -1 to 1",
            "imagenet": "less ImageNet's mean, by its deviation",
        }
        sized = f"{how} to its size" if how else ""
        return [f"input {self.input}: images decoded by TensorFlow{sized}, pixels {scales[self.reading.scale]}"]

    def remedy(self, row: ExampleRow, others: Mapping[str, Array | None]) -> str:
        """Return the flags with which an example feeds the input, tried out; nothing where none do."""
        stems = sorted({f"{match[1]}*" for name in others if (match := _NUMBERED.fullmatch(name))})
        own = self._flags_for(self.feature, row) if self.feature in others else ""
        return own or " or ".join(filter(None, (self._flags_for(name, row) for name in [*sorted(others), *stems])))

    def _flags_for(self, name: str, row: ExampleRow) -> str:
        """Return the flags with which a feature, or several of a pattern, feeds the input."""
        many = int(np.prod([size or 1 for size in self.shape])) >= _MANY  # a short string may have any length by chance
        kinds = ["", IMAGE, *(["uint8", self.dtype.name] if many else [])] if not self._is_string else [""]
        for kind in kinds:
            for resize in dict.fromkeys([self.reading.resize, self.reading.resize or "crop"]):
                reading = attrs.evolve(self.reading, resize=resize)
                tried = attrs.evolve(
                    self, feature=name, decode=kind or self.decode, is_chosen=True, reading=reading, decoded=[]
                )
                try:
                    tried.read(row)
                except (ExamplesError, TypeError):
                    continue
                flags = [] if name == self.input else [f"--feature {shlex.quote(f'{self.input}={name}')}"]
                flags += [f"--decode {self.input}{'' if kind == IMAGE else f'={kind}'}"] if kind else []
                flags += [f"--resize {resize}"] if resize != self.reading.resize else []
                return " ".join(flags)
        return ""

    @property
    def _is_string(self) -> bool:
        return self.dtype.kind == "O"

    def _find(self, values: Mapping[str, Array | None], name: str) -> Array:
        if name in values:
            value = values[name]
            if value is None:
                raise ExamplesError(f"input {self.input}: feature {name} has no values")
            return value
        matching = [it for it in values if fnmatch.fnmatchcase(it, name)] if "*" in name else []
        parts = [values[it] for it in matching]
        if not parts:
            raise ExamplesError(f"input {self.input}: no feature {name}")
        if any(part is None for part in parts):
            raise ExamplesError(f"input {self.input}: some of the features {name} have no values")
        if any(part is not None and part.dtype.kind == "U" for part in parts):
            return np.concatenate([self._numbers(part, name) for part in parts if part is not None])
        return np.concatenate([part.ravel() for part in parts if part is not None])

    def _fit(self, value: Array, name: str, row: ExampleRow) -> Array:
        if self._is_string:
            return self._fit_strings(value, name)
        kind = self.decode or (IMAGE if row.holds_files else "")
        if kind:
            value = self._decoded(value, name, kind)
        elif is_bytes(value):
            value = self._numbers(value, name)
        wrong = value.dtype.kind not in "fiubV" or value.dtype.type is np.void
        if wrong or (value.dtype.kind in "f" and not is_float(self.dtype)):
            raise ExamplesError(
                f"input {self.input}: feature {name} holds {amount(value)}, {self.dtype.name} needs integers"
            )
        return self._narrow(self._shaped(value, name, row), name)

    def _fit_strings(self, value: Array, name: str) -> Array:
        if not is_bytes(value):
            raise ExamplesError(f"input {self.input}: feature {name} holds {amount(value)}, string needs strings")
        shape = _complete(self.shape, value.size)
        if shape is None:
            raise self._unfilled(value, name, self.shape)
        return text_array(as_bytes(value)).reshape(shape)

    def _decoded(self, value: Array, name: str, kind: str) -> Array:
        if not is_bytes(value) or value.size != 1:
            raise ExamplesError(f"input {self.input}: feature {name} holds {amount(value)}, one string is decoded")
        try:
            decoded = decode(as_bytes(value)[0], kind, self.shape, self.reading)
        except ExamplesError as error:
            raise ExamplesError(f"input {self.input}: feature {name}: {error.message}") from error
        if kind == IMAGE:
            self.decoded[:] = [name]
            if self.dtype.kind in "iu" and decoded.dtype.kind == "f":
                decoded = np.rint(decoded).astype(np.int64)
        return decoded

    def _numbers(self, value: Array, name: str) -> Array:
        """Read the numbers for which text stands, as in tables."""
        if value.dtype.kind == "U":
            try:
                return parse_numbers(value)
            except ValueError:
                pass
        raise ExamplesError(
            f"input {self.input}: feature {name} holds {amount(value)}, {self.dtype.name} needs "
            f"{'numbers' if is_float(self.dtype) else 'integers'}"
        )

    def _shaped(self, value: Array, name: str, row: ExampleRow) -> Array:
        """Bring a value to the row's shape: a list of numbers fills it, an array has it up to sizes of 1."""
        fits = len(value.shape) == len(self.shape) and all(
            want in (None, size) for want, size in zip(self.shape, value.shape, strict=True)
        )
        if fits and value.ndim != 1:
            return value
        flat = value.ndim <= 1
        unknown = sum(size is None for size in self.shape)
        wanted: tuple[int | None, ...] = self.shape
        if flat and unknown > 1:
            wanted = (*self._image_size(row.values), *self.shape[2:])
        shape = _complete(wanted, value.size) if flat or unknown < 2 else None
        squeezed = [size for size in value.shape if size != 1]
        if shape is None or not (flat or squeezed == [size for size in shape if size != 1]):
            raise self._unfilled(value, name, wanted)
        return value.reshape(shape)

    def _unfilled(self, value: Array, name: str, wanted: Sequence[int | None]) -> ExamplesError:
        return ExamplesError(
            f"input {self.input}: feature {name} has {amount(value)}, which do not fill {shape_text(wanted)}"
        )

    def _image_size(self, values: Mapping[str, Array | None]) -> list[int]:
        """Return the height and the width that an example tells of its image."""
        sizes = []
        for name in _IMAGE_SIZE:
            found = values.get(name)
            if found is not None and found.dtype.kind == "U":
                found = self._numbers(found, name)
            if found is None or found.size != 1 or found.dtype.kind not in "iu" or found.ravel()[0] < 1:
                raise ExamplesError(
                    f"input {self.input}: {shape_text(self.shape)}: feature {name} has {amount(found)}, one integer "
                    "above 0 is needed to tell the image's size"
                )
            sizes.append(int(found.ravel()[0]))
        return sizes

    def _narrow(self, wide: Array, name: str) -> Array:
        if wide.dtype == self.dtype:
            return wide
        with np.errstate(over="ignore"):
            narrow = wide.astype(self.dtype)
        if is_float(wide.dtype):
            kept = np.isfinite(narrow.astype(np.float32)) | ~np.isfinite(wide.astype(np.float64))
        else:
            kept = narrow.astype(np.float64) == wide.astype(np.float64)
        if not np.all(kept):
            raise ExamplesError(
                f"input {self.input}: feature {name} holds {wide.min():g}..{wide.max():g}, "
                f"more than {self.dtype.name} can"
            )
        return narrow


def _string(content: bytes) -> Array:
    array = np.empty((), object)
    array[()] = content
    return array


def _complete(shape: tuple[int | None, ...], length: int) -> tuple[int, ...] | None:
    """Return the shape with its one unknown size filled in, or None where `length` values do not fill it."""
    known = math.prod(size for size in shape if size is not None)
    if None not in shape:
        return tuple(size for size in shape if size is not None) if known == length else None
    if known == 0 or length % known or sum(size is None for size in shape) > 1:
        return None
    return tuple(length // known if size is None else size for size in shape)
