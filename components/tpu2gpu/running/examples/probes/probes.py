"""Probes: made-up batches that cover what a graph's inputs are made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.examples.probes.domain import Domain
from tpu2gpu.running.examples.probes.drawing import (
    EDGES,
    SIGNED,
    STRUCTURED,
    TYPICAL,
    WIDE,
    draw_numbers,
    is_image_shape,
)
from tpu2gpu.running.examples.probes.find_domains import find_domains
from tpu2gpu.running.examples.probes.texts import draw_texts
from tpu2gpu.running.runner import TensorSpec

SEED = 0
UNKNOWN_SIZE = 32  # what an unknown dimension is taken to be when nothing tells
_OTHER_SIZE = 21  # odd, and no divisor of the other
_ROWS = 3  # of the probes that are not typical; odd, and no size that a test is likely to have
_IMAGES = 5  # one of each structure


@attrs.frozen
class Probe:
    """One made-up batch.

    Attributes:
        kind: Which values it holds, one of `drawing.KINDS`.
        feeds: The batch.
        required: Whether a model that does not run on it cannot be judged; others are left out where it does not.
    """

    kind: str
    feeds: dict[str, Array] = attrs.field(repr=False)
    required: bool = False

    def describe(self) -> dict[str, Any]:
        """Return what a report says of it."""
        return {"kind": self.kind, "shapes": {name: list(array.shape) for name, array in self.feeds.items()}}


@attrs.frozen
class Probes:
    """Made-up batches, and what they were derived from.

    Attributes:
        batches: The batches; the first are typical ones.
        domains: For each input the values that the graph expects.
        seed: The seed of all chance in them.
    """

    batches: tuple[Probe, ...]
    domains: dict[str, Domain]
    seed: int = SEED

    def describe(self) -> dict[str, Any]:
        """Return what a report says of them."""
        return {
            "seed": self.seed,
            "batches": [probe.describe() for probe in self.batches],
            "inputs": {name: domain.to_json() for name, domain in sorted(self.domains.items())},
        }

    @property
    def origin(self) -> str:
        """Their origin, for people: `synthetic inputs (seed 0: 2 typical, 1 signed batches)`."""
        kinds = [probe.kind for probe in self.batches]
        counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        return f"synthetic inputs (seed {self.seed}: {counted} batch{'es' * (len(kinds) > 1)})"


def probe_model(model: ServingModel, signature: str, *, batch_sizes: Sequence[int] = (1, 8)) -> Probes:
    """Make probes for a signature of a model; the model is left as it is.

    Args:
        model: The model.
        signature: Its signature.
        batch_sizes: The sizes of the typical batches, where the batch is not fixed.

    Raises:
        SignatureError: The model has no such signature.
    """
    return make_probes(
        input_specs(model, signature),
        find_domains(model, signature),
        sizes=[{"batches": list(batch_sizes), "shapes": {}}],
    )


def make_probes(
    inputs: Sequence[TensorSpec],
    domains: Mapping[str, Domain],
    *,
    sizes: Sequence[Mapping[str, Any]],
    seed: int = SEED,
    kinds: Sequence[str] = (SIGNED, EDGES, WIDE, STRUCTURED),
    unknown_size: int = UNKNOWN_SIZE,
) -> Probes:
    """Make probes for inputs: typical ones in every size, then the other kinds, then another size.

    Args:
        inputs: The model's inputs.
        domains: The values that they are made for, of those of which something is known.
        sizes: What to make typical batches of, once for each profile: `batches`, the sizes to run where the batch is
            not fixed; `shapes`, for inputs with unknown dimensions beside the batch a shape to use.
        seed: The same seed makes the same probes.
        kinds: The kinds beside the typical ones.
        unknown_size: The size of dimensions beside the batch that nothing tells.
    """
    known = {spec.name: domains.get(spec.name, Domain()) for spec in inputs}
    fixed = [spec.shape[0] for spec in inputs if spec.shape and spec.shape[0] is not None]
    maker = _Maker(inputs, known, seed, unknown_size)
    made = [
        maker.make(TYPICAL, batch, each["shapes"], required=True)
        for each in sizes
        for batch in fixed[:1] or each["batches"]
    ]
    shapes = sizes[0]["shapes"]
    allowed = fixed[:1] or sizes[0]["batches"]
    rows = _within(_ROWS, allowed)
    made += [maker.make(kind, rows, shapes) for kind in kinds if kind != STRUCTURED and maker.differs(kind)]
    if STRUCTURED in kinds and any(is_image_shape(maker.shape(spec, rows, shapes)) for spec in inputs):
        made.append(maker.make(STRUCTURED, _within(_IMAGES, allowed), shapes))
    unknown = any(size is None for spec in inputs for size in spec.shape[1:])
    if kinds and unknown and not shapes:
        made.append(maker.make(TYPICAL, rows, {}, unknown_size=unknown_size * _OTHER_SIZE // UNKNOWN_SIZE))
    return Probes(tuple(made), known, seed)


def input_specs(model: ServingModel, signature: str) -> list[TensorSpec]:
    """Return the inputs of a signature, by name.

    Raises:
        SignatureError: The model has no such signature.
    """
    return specs_of(model.signature(signature).inputs)


def specs_of(infos: Mapping[str, Any]) -> list[TensorSpec]:
    """Return what TensorInfos say, by name."""
    from tensorflow.python.framework import dtypes

    specs = []
    for name, info in sorted(infos.items()):
        shape = tuple(None if dim.size < 0 else int(dim.size) for dim in info.tensor_shape.dim)
        dtype = dtypes.as_dtype(info.dtype).name
        specs.append(TensorSpec(name, dtype, shape, not info.tensor_shape.unknown_rank))
    return specs


def _within(size: int, allowed: Sequence[int]) -> int:
    """Return the batch size nearest to one that lies between the least and the largest allowed."""
    return min(max(size, min(allowed)), max(allowed))


class _Maker:
    """A maker of batches; every batch has chance of its own, so that one more changes no other."""

    def __init__(
        self, inputs: Sequence[TensorSpec], domains: Mapping[str, Domain], seed: int, unknown_size: int
    ) -> None:
        self._inputs, self._domains, self._seed, self._unknown_size = inputs, domains, seed, unknown_size
        self._made = 0

    def make(
        self,
        kind: str,
        batch: int,
        shapes: Mapping[str, Sequence[int]],
        *,
        required: bool = False,
        unknown_size: int | None = None,
    ) -> Probe:
        rng = np.random.default_rng([self._seed, self._made])
        self._made += 1
        feeds = {}
        for spec in self._inputs:
            shape, domain = self.shape(spec, batch, shapes, unknown_size), self._domains[spec.name]
            if spec.dtype == "string":
                feeds[spec.name] = draw_texts(rng, domain, shape, edges=kind in (EDGES, SIGNED))
            else:
                feeds[spec.name] = draw_numbers(rng, domain, spec.dtype, shape, kind)
        return Probe(kind, feeds, required)

    def shape(
        self,
        spec: TensorSpec,
        batch: int,
        shapes: Mapping[str, Sequence[int]],
        unknown_size: int | None = None,
    ) -> list[int]:
        known, assumed = shapes.get(spec.name), unknown_size or self._unknown_size
        sizes = [
            (known[place] if known else assumed) if size is None else size for place, size in enumerate(spec.shape)
        ]
        if spec.shape and spec.shape[0] is None:
            sizes[0] = batch
        return sizes

    def differs(self, kind: str) -> bool:
        """Tell whether a kind of probe would differ from the typical one in any input."""
        if kind == WIDE:
            return any(spec.dtype not in ("string", "bool") for spec in self._inputs)
        return True
