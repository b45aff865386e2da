"""What every runner is: a model that is ready to run, whatever its kind."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import attrs
import numpy as np

from tpu2gpu.errors import SignatureError
from tpu2gpu.options import did_you_mean
from tpu2gpu.running.arrays import Array, is_text, numpy_dtype


@attrs.frozen
class TensorSpec:
    """An input or output of a model.

    Attributes:
        name: Its name in the signature.
        dtype: numpy's name of its type (`float32`, `bfloat16`), or `string`.
        shape: Its dimensions, None where a dimension is unknown.
        ranked: False where even the number of an output's dimensions is unknown; the shape is empty then.
        takes_records: Whether its strings are serialized tf.Examples, which the model parses itself.
        default: What an input is where a request leaves it out, as a number or tuples of numbers; None where it must
            be given.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    ranked: bool = True
    takes_records: bool = False
    default: Any = None

    def to_json(self) -> dict[str, Any]:
        """Return the specification as plain data; the shape is null where the number of dimensions is unknown."""
        shape = list(self.shape) if self.ranked else None
        data: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": shape}
        data |= {"takes_records": True} if self.takes_records else {}
        return data if self.default is None else {**data, "default": self.default}

    def with_rank(self, rank: int) -> TensorSpec:
        """Return the specification with as many dimensions as were seen, where their number is unknown."""
        return self if self.ranked else attrs.evolve(self, shape=(None,) * rank, ranked=True)

    def default_array(self) -> Array:
        """Return the default as an array."""
        return np.asarray(self.default, object if self.dtype == "string" else numpy_dtype(self.dtype))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorSpec:
        """Read `to_json`'s form back."""
        ranked, takes_records = data["shape"] is not None, bool(data.get("takes_records"))
        shape, default = tuple(data["shape"] or ()), _as_tuples(data.get("default"))
        return cls(data["name"], data["dtype"], shape, ranked, takes_records, default)

    def __str__(self) -> str:
        """Return `images: float32 [?, 8, 8, 1]`."""
        return f"{self.name}: {self.dtype} {shape_text(self.shape) if self.ranked else '[...]'}"


def shape_text(shape: Sequence[int | None]) -> str:
    """Return `[?, 8, 8]`."""
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _as_tuples(value: Any) -> Any:
    """Return nested lists as nested tuples, which do not change."""
    return tuple(map(_as_tuples, value)) if isinstance(value, (list, tuple)) else value


Feeds = Mapping[str, Array] | Array
"""What a model is given: an array for each input, by name; or the array alone, where there is one input."""


class Runner(Protocol):
    """A model that is ready to run.

    Attributes:
        kind: `saved_model`, `graph_def`, `onnx`, `engine`, `serving` or `server`.
        concurrency: How many requests it takes at once, from as many threads.
        inputs: What `run` takes, sorted by name.
        outputs: What `run` gives, sorted by name.
    """

    kind: str
    concurrency: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run one request.

        Args:
            feeds: An array for each input by name, or the array of the only input: `[batch, ...]`.

        Returns:
            An array for each output, by name.

        Raises:
            SignatureError: The feeds do not fit the inputs; every misfit is listed.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Tell what runs and on what: kind, device, provider, threads, versions of the libraries."""
        ...

    def close(self) -> None:
        """Give its memory back."""
        ...


@runtime_checkable
class SupportsLatencyBreakdown(Protocol):
    """A runner that can tell where a request's time goes."""

    def latency_breakdown_ms(self) -> dict[str, float]:
        """Return the mean time of a request in each part since last asked; empty without any request."""
        ...


class RunnerKind(Protocol):
    """A kind of model that can be opened; `opening.RUNNERS` names them all.

    Attributes:
        form: What to give, for messages: `a SavedModel's folder (saved_model.pb)`.
    """

    @property
    def form(self) -> str: ...  # noqa: D102 - see above

    def detect(self, path: str) -> bool:
        """Tell whether a path, or an address, is of this kind."""
        ...

    def slow_imports(self, path: str) -> tuple[str, ...]:
        """Return the modules that take seconds to import, of those that opening a model imports."""
        ...

    def open(
        self,
        path: str,
        *,
        signature: str,
        threads: int | None,
        timeout_s: float,
        trust: Sequence[str] = (),
        unverified: bool = False,
    ) -> Runner:
        """Open a model; see `opening.open_runner`."""
        ...


def check_feeds(inputs: Sequence[TensorSpec], feeds: Feeds, model: str | os.PathLike[str]) -> dict[str, Array]:
    """Check feeds against a model's inputs.

    Args:
        inputs: What the model takes.
        feeds: What it is given.
        model: The model, for messages.

    Returns:
        The feeds as arrays, in the order of the inputs.

    Raises:
        SignatureError: Names, types or shapes do not fit; every misfit is listed.
    """
    if not isinstance(feeds, Mapping):
        feeds = {_only_input(inputs, model).name: feeds}
    known = {spec.name for spec in inputs}
    wrong = [f"{name}: the model has no such input" for name in feeds if name not in known]
    arrays: dict[str, Array] = {}
    for spec in inputs:
        if spec.name not in feeds and spec.default is None:
            wrong.append(f"{spec}: missing")
            continue
        array = np.asarray(feeds[spec.name]) if spec.name in feeds else spec.default_array()
        arrays[spec.name] = array
        if not _has_dtype(array, spec.dtype) or not _fits(array.shape, spec.shape):
            wrong.append(f"{spec}: given {dtype_name(array.dtype)} {list(array.shape)}")
    if wrong:
        hint = _way_to_fit(inputs, arrays)
        raise SignatureError(f"{model}: the feeds do not fit the model's inputs", details=wrong, hint=hint)
    return arrays


def _only_input(inputs: Sequence[TensorSpec], model: str | os.PathLike[str]) -> TensorSpec:
    if len(inputs) != 1:
        known = [str(spec) for spec in inputs]
        raise SignatureError(f"{model}: takes {len(inputs)} inputs, not one array", details=known, hint="give a dict")
    return inputs[0]


def _way_to_fit(inputs: Sequence[TensorSpec], arrays: Mapping[str, Array]) -> str:
    """Return the way from arrays to those that fit, where a batch dimension or a type is all that is missing."""
    for spec in inputs:
        array = arrays.get(spec.name)
        if array is None or array.dtype.kind not in "fiu" or spec.dtype == "string":
            continue
        if not _fits(array.shape, spec.shape) and _fits((1, *array.shape), spec.shape):
            return f"{spec.name}[None] is a batch of one example"
        if dtype_name(array.dtype) != spec.dtype:
            return f"{spec.name}.astype({spec.dtype!r}) has the type"
    return ""


def choose_signature(signatures: Mapping[str, Any], name: str, model: object) -> Any:
    """Return the signature of a name.

    Args:
        signatures: A model's signatures.
        name: The name.
        model: The model, for the message.

    Raises:
        SignatureError: The model has no such signature.
    """
    if name not in signatures:
        known = sorted(signatures)
        raise SignatureError(
            f"{model}: no signature '{name}', it has {', '.join(known) or 'none'}", hint=did_you_mean(name, known)
        )
    return signatures[name]


def _has_dtype(array: Array, name: str) -> bool:
    """Tell whether `dtype_name(array.dtype) == name`, in a tenth of a microsecond: this is done for every request."""
    return is_text(array) if name == "string" else array.dtype == _dtype_of(name)


_dtype_of = functools.cache(numpy_dtype)


def dtype_name(dtype: Any) -> str:
    """Return numpy's name of a type, and `string` for every type that holds text or bytes."""
    return "string" if is_text(np.empty(0, dtype)) else str(np.dtype(dtype).name)


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(want in (None, size) for size, want in zip(shape, expected, strict=True))
