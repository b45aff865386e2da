"""The tensors of the source's graph that the converted model has too, compared."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from tpu2gpu.graphs.edit import ancestors, consumers, descendants, topological_order, walk
from tpu2gpu.graphs.nodes import data_inputs, join_tensor, producer, split_tensor
from tpu2gpu.running.arrays import Array, is_float
from tpu2gpu.running.comparison.error_sketch import is_discrete, sketch_errors
from tpu2gpu.running.local.graph_session import GraphSession
from tpu2gpu.trt_converter.judge.onnx_tensors import OnnxTensors


@attrs.frozen
class Recomputed:
    """A tensor that the source computed from what the converted model computed before it.

    Attributes:
        found: The converted model's value in the source's form; None where it has another.
        error: Its relative error.
        inputs: The tensors that it was computed from.
        nodes: The source's nodes that computed it, the tensor's own first.
    """

    found: Array | None = attrs.field(repr=False)
    error: float
    inputs: list[str]
    nodes: list[Any] = attrs.field(repr=False)


class Steps:
    """The tensors that both sides have, in the order in which they are computed, on one batch.

    Args:
        session: The source.
        tensors: The converted model.
        names: Its names of inputs and outputs.
        feeds: The batch, by the signature's names.
        tolerance: The largest relative error that is none.
    """

    def __init__(
        self,
        session: GraphSession,
        tensors: OnnxTensors,
        names: Mapping[str, Mapping[str, str]],
        feeds: Mapping[str, Array],
        tolerance: float,
    ) -> None:
        self._session, self._tensors, self._feeds, self._tolerance = session, tensors, feeds, tolerance
        self._onnx_feeds = {names["inputs"][name]: array for name, array in feeds.items()}
        self._fetched: dict[str, Array] = {}
        self._computed: dict[str, Array] = {}  # of the source, from what it is given
        self._given: dict[str, Array] = {}
        outputs = {tensor: names["outputs"][name] for name, tensor in session.outputs.items()}
        needed = ancestors(session.nodes, {split_tensor(tensor)[0] for tensor in outputs}, control=False)
        self._onnx_names = dict(self._shared(topological_order({name: session.nodes[name] for name in needed})))
        self._onnx_names.update(outputs)
        self._consumers = consumers(session.nodes)
        self.order = [tensor for tensor in self._onnx_names if tensor not in outputs] + list(outputs)

    def _shared(self, nodes: Iterable[Any]) -> Iterator[tuple[str, str]]:
        for node in nodes:
            for index in range(len(self._session.node_outputs(node.name))):
                tensor = f"{node.name}:{index}"
                if node.op != "Const" and tensor in self._tensors.names and self._session.can_fetch(tensor):
                    yield tensor, tensor

    def forget(self, tensor: str) -> None:
        """Compare a tensor no more: the converted model holds something else under its name."""
        self.order.remove(tensor)
        self._onnx_names.pop(tensor)

    def found(self, tensors: Sequence[str]) -> dict[str, Array]:
        """Return the converted model's values."""
        missing = [tensor for tensor in tensors if tensor not in self._fetched]
        if missing:
            values = self._tensors.fetch([self._onnx_names[tensor] for tensor in missing], self._onnx_feeds)
            self._fetched.update((tensor, values[self._onnx_names[tensor]]) for tensor in missing)
        return {tensor: self._fetched[tensor] for tensor in tensors}

    def wanted(self, tensors: Sequence[str]) -> dict[str, Array]:
        """Return the source's values, from those that it is given; it goes on from what it has computed before."""
        missing = [tensor for tensor in tensors if tensor not in self._computed]
        if missing:
            self._computed.update(self._session.run(missing, self._feeds, {**self._computed, **self._given}))
        return {tensor: self._computed[tensor] for tensor in tensors}

    def give(self, tensor: str, value: Array) -> None:
        """Give the source a value in the place of a tensor, from now on."""
        self._given[tensor] = value
        behind = descendants(self._consumers, [split_tensor(tensor)[0]])
        self._computed = {name: it for name, it in self._computed.items() if split_tensor(name)[0] not in behind}

    def differing(self, tensors: Sequence[str]) -> list[str]:
        """Return those of some tensors that differ; what has another form on the two sides is forgotten."""
        wanted, found = self.wanted(tensors), self.found(tensors)
        differing = []
        for tensor in tensors:
            other = aligned(found[tensor], wanted[tensor])
            if other is None:
                if tensor not in self._session.outputs.values():
                    self.forget(tensor)
                    continue
                differing.append(tensor)
            elif error_of(wanted[tensor], other) > self._tolerance:
                differing.append(tensor)
        return differing

    def recompute(self, tensor: str) -> Recomputed:
        """Let the source compute a tensor from what the converted model computed before it."""
        unfit: set[str] = set()
        while True:
            before, nodes = self._before(tensor, unfit)
            wanted, found = self.wanted(before), self.found(before)
            values = {name: aligned(found[name], wanted[name]) for name in before}
            if not (more := {name for name, value in values.items() if value is None}):
                break
            unfit |= more
        inputs = {name: value for name, value in values.items() if value is not None}
        computed = self._session.run([tensor], self._feeds, inputs)[tensor]
        other = aligned(self.found([tensor])[tensor], computed)
        error = float("inf") if other is None else error_of(computed, other)
        return Recomputed(other, error, before, [self._session.nodes[name] for name in nodes])

    def _before(self, tensor: str, unfit: Collection[str]) -> tuple[list[str], list[str]]:
        """Return the nearest tensors before one that the converted model has too, and the nodes between."""
        found: list[str] = []

        def onward(name: str) -> Iterable[str]:
            for reference in data_inputs(self._session.nodes[name]):
                source = ":".join(map(str, split_tensor(reference)))
                if source in self._onnx_names and source not in unfit and source != tensor:
                    found.append(source)
                else:
                    yield producer(reference)

        nodes = list(walk([split_tensor(tensor)[0]], onward))
        return list(dict.fromkeys(found)), nodes

    def after(self, tensor: str) -> list[str]:
        """Return the nearest tensors behind one that the converted model has too."""
        found: list[str] = []

        def onward(reference: str) -> Iterable[str]:
            name, index = split_tensor(reference)
            for node, _ in self._consumers.get(name, ()):
                if join_tensor(name, index) not in data_inputs(node):
                    continue
                for place in range(len(self._session.node_outputs(node.name))):
                    output = f"{node.name}:{place}"
                    if output in self._onnx_names:
                        found.append(output)
                    else:
                        yield output

        for _ in walk([tensor], onward):
            pass
        return list(dict.fromkeys(found))


def aligned(found: Array, wanted: Array) -> Array | None:
    """Return the converted model's value in the form of the source's: type, and channels last.

    Returns:
        None where it has another form.
    """
    if found.dtype != wanted.dtype:
        if "O" in (found.dtype.kind, wanted.dtype.kind):
            return None
        if is_float(wanted.dtype) != is_float(found.dtype) and wanted.dtype.kind != "b":
            return None
        found = found.astype(wanted.dtype)
    forms = [found]
    if found.ndim >= 3:
        forms.append(np.moveaxis(found, 1, -1))  # tf2onnx puts channels first, and keeps the names
    fitting = [form for form in forms if form.shape == wanted.shape]
    if len(fitting) < 2:
        return fitting[0] if fitting else None
    return min(fitting, key=lambda form: error_of(wanted, form))


def error_of(wanted: Array, found: Array) -> float:
    """Return the relative error between two arrays of one form: of floats to the largest, else 1 where any differs."""
    if (error := _plain_error(wanted, found)) is not None:
        return error
    sketch = sketch_errors(wanted, found)
    if is_discrete(wanted):
        return 1.0 if sketch.unequal else 0.0
    if sketch.nan_count or sketch.inf_count:
        return float("inf")
    if not sketch.max_abs_error:
        return 0.0
    return sketch.max_abs_error / sketch.max_abs_reference if sketch.max_abs_reference else float("inf")


def _plain_error(wanted: Array, found: Array) -> float | None:
    """Return the same for finite float32, of which a search compares millions; None for anything else."""
    if not wanted.size or not wanted.dtype == found.dtype == np.float32:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        error, *largest = (float(max(it.max(), -it.min())) for it in (found - wanted, wanted, found))
    if not np.isfinite([error, *largest]).all():
        return None
    return 0.0 if not error else error / largest[0] if largest[0] else float("inf")
