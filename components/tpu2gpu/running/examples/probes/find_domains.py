"""Find the values that a signature's inputs are made for, from what its graph does with them.

A tensor is followed from each input while it is the input still, but for its form, a scale and an offset; the first
operations that do something else with it tell what they expect.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np

from tpu2gpu.errors import Tpu2GpuError
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.graphs.functions.following import Following, Tensor, Use
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.ops import ADDS, COMPARISONS, DIVISIONS, PASSTHROUGH
from tpu2gpu.graphs.shapes.noted_shapes import noted_shape
from tpu2gpu.running.examples.probes.domain import Domain, RecordForm
from tpu2gpu.running.examples.probes.parsed_features import parsed_form, parses
from tpu2gpu.running.examples.probes.vocabularies import table_keys

_MOST_USES = 4000  # that one input is followed to
_MOST_POINTS = 64
_MOST_TEXTS = 256
_MOST_CHANNELS = 4096  # of a scale or an offset
_LEAST_SCALE = 1e-9
_SPREAD = 2.5  # standard deviations of normalised features

# These move values about, and change none.
_MOVES = PASSTHROUGH | frozenset(
    """Cast Reshape ExpandDims Squeeze Transpose Pack ConcatV2 Tile StridedSlice Slice Unpack Split SplitV GatherV2
    GatherNd ReverseV2 SpaceToDepth DepthToSpace Pad PadV2 MirrorPad BroadcastTo TensorListFromTensor TensorListGetItem
    TensorListStack TensorArrayScatterV3 TensorArrayReadV3 ResizeBilinear ResizeNearestNeighbor ResizeArea ResizeBicubic
    SparseToDense RaggedTensorToTensor SparseReshape StringLower StringUpper StringStrip RegexReplace
    StaticRegexReplace UnicodeTranscode Switch RefSwitch Merge RefMerge Optimization BatchToSpaceND
    SpaceToBatchND""".split()
)
_FIRST_ONLY = frozenset(  # of these the other inputs are sizes and places
    """Reshape ExpandDims Tile StridedSlice Slice SplitV GatherNd Pad PadV2 MirrorPad BroadcastTo ReverseV2
    TensorListFromTensor TensorListGetItem TensorListStack ResizeBilinear ResizeNearestNeighbor ResizeArea ResizeBicubic
    RegexReplace Squeeze Transpose BatchToSpaceND SpaceToBatchND""".split()
)
_EQUALITIES = ("Equal", "NotEqual")
_EXTREMES = ("Minimum", "Maximum")
_WHOLE_DIVISIONS = ("FloorDiv", "FloorMod", "Mod", "TruncateDiv", "TruncateMod")
_LIMITS = {  # the least and the largest value without NaN
    "Log": (0.0, None),
    "Sqrt": (0.0, None),
    "Rsqrt": (0.0, None),
    "Log1p": (-1.0, None),
    "Asin": (-1.0, 1.0),
    "Acos": (-1.0, 1.0),
    "Atanh": (-1.0, 1.0),
    "Acosh": (1.0, None),
    "Erfinv": (-1.0, 1.0),
    "Lgamma": (0.0, None),
}
_IMAGE_DECODERS = ("DecodeJpeg", "DecodePng", "DecodeImage", "DecodeBmp", "DecodeAndCropJpeg", "DecodeGif")
_LOOKUPS = ("Gather", "GatherV2", "GatherNd", "ResourceGather")
_SIZES = {"Fill": 0, "Range": 1, "BroadcastTo": 1}  # inputs that are sizes


@attrs.frozen
class _Place:
    """A tensor that is `scale * input + offset`.

    Attributes:
        by_channel: Whether scale or offset are means over channels.
        spread: By how much the channels' offsets differ from their mean at most.
    """

    tensor: Tensor
    scale: float = 1.0
    offset: float = 0.0
    by_channel: bool = False
    spread: float = 0.0

    def back(self, value: float) -> float:
        """Return the value of the input at which the tensor has this one."""
        return (value - self.offset) / self.scale


class _Evidence:
    """What the uses of one input say."""

    def __init__(self) -> None:
        self.lows: list[float] = []
        self.highs: list[float] = []
        self.ranges: list[tuple[float, float]] = []
        self.points: list[float] = []
        self.texts: list[bytes] = []
        self.text_form = ""
        self.image_size: tuple[int, int] | None = None
        self.record: RecordForm | None = None
        self.why: list[str] = []

    def domain(self) -> Domain:
        low, high = max(self.lows, default=None), min(self.highs, default=None)
        if low is not None and high is not None and low > high:
            low = high = None
        return Domain(
            low=low,
            high=high,
            ranges=tuple(dict.fromkeys(self.ranges)),
            points=tuple(dict.fromkeys(point for point in self.points if np.isfinite(point)))[:_MOST_POINTS],
            texts=tuple(dict.fromkeys(self.texts))[:_MOST_TEXTS],
            text_form=self.text_form,
            image_size=self.image_size,
            record=self.record,
            why=tuple(dict.fromkeys(self.why))[:16],
        )


def find_domains(model: ServingModel, signature: str) -> dict[str, Domain]:
    """Return for each input of a signature the values that it is made for; the model is left as it is."""
    finder = _Finder(model)
    inputs = model.signature(signature).inputs
    return {name: finder.domain(finder.following.tensor(info.name)) for name, info in sorted(inputs.items())}


def domains_of(source: str | os.PathLike[str], signature: str) -> dict[str, Domain]:
    """Return what a SavedModel's inputs are made for; nothing where its graph cannot be read."""
    try:
        return find_domains(read_saved_model(source), signature)
    except (Tpu2GpuError, ValueError):  # TensorFlow loads more than we read
        return {}


class _Finder:
    def __init__(self, model: ServingModel) -> None:
        self.following = Following(model)
        self._model = model

    def domain(self, tensor: Tensor) -> Domain:
        """Return the values that a tensor is made for."""
        evidence, seen, left = _Evidence(), {tensor}, _MOST_USES
        waiting = deque([_Place(tensor)])
        while waiting and left > 0:
            place = waiting.popleft()
            uses = list(self.following.uses(place.tensor))
            further = [each for use in uses for each in self._onward(place, use, evidence)]
            further += [attrs.evolve(place, tensor=outside) for outside in self.following.returned(place.tensor)]
            left -= len(uses)
            if not further and not any(use.node.op in _RULES for use in uses):
                _note_scale(place, evidence)
            new = [each for each in further if each.tensor not in seen]
            seen.update(each.tensor for each in new)
            waiting.extend(new)
        return evidence.domain()

    def _onward(self, place: _Place, use: Use, evidence: _Evidence) -> list[_Place]:
        """Take a use as evidence, and return what is the input still behind it."""
        if use.entered:
            return [attrs.evolve(place, tensor=entered) for entered in use.entered]
        op, node = use.node.op, use.node
        output = Tensor(use.scope, node.name, 0)
        if op in _LOOKUPS and use.position == 1:
            self._limit_index(use, place, evidence)
        elif op in ADDS or op in ("Sub", "Mul") or op in DIVISIONS:
            return self._affine(place, use, output)
        elif op in _MOVES:
            if use.position == 0 or op not in _FIRST_ONLY:
                return [attrs.evolve(place, tensor=Tensor(use.scope, node.name, index)) for index in _outputs_of(use)]
        elif (rule := _RULES.get(op)) is not None:
            return rule(self, place, use, evidence)
        elif parses(node, use.position):
            form = parsed_form(self.following, use, self.domain)
            evidence.record = form if evidence.record is None else evidence.record.merged(form)
            evidence.why.append(f"{op} {node.name}: serialized tf.Examples")
        return []

    def _constant(self, use: Use, position: int) -> np.ndarray[Any, Any] | None:
        return self.following.constant(use.scope, use.node, position)

    def _affine(self, place: _Place, use: Use, output: Tensor) -> list[_Place]:
        value = self._constant(use, 1 - use.position)
        if value is None or not value.size or value.dtype.kind not in "fiu" or value.size > _MOST_CHANNELS:
            return []
        op, low, high = use.node.op, float(np.min(value)), float(np.max(value))
        number, spread = (low + high) / 2, place.spread + (high - low) / 2
        if op in ADDS:
            moved = attrs.evolve(place, offset=place.offset + number, spread=spread)
        elif op == "Sub" and use.position == 0:
            moved = attrs.evolve(place, offset=place.offset - number, spread=spread)
        elif op == "Sub":
            moved = attrs.evolve(place, scale=-place.scale, offset=number - place.offset, spread=spread)
        else:
            factor = number if op == "Mul" else (1 / number if number and use.position == 0 else 0.0)
            if abs(place.scale * factor) < _LEAST_SCALE or not np.isfinite(factor):
                return []
            scale, offset, spread = (each * factor for each in (place.scale, place.offset, place.spread))
            moved = attrs.evolve(place, scale=scale, offset=offset, spread=abs(spread))
        return [attrs.evolve(moved, tensor=output, by_channel=place.by_channel or value.size > 1)]

    def _limit_index(self, use: Use, place: _Place, evidence: _Evidence) -> None:
        shape = self.following.shape(self.following.inputs(use.scope, use.node)[0])
        if not shape or place.scale != 1:
            return
        axis = self._constant(use, 2) if use.node.op == "GatherV2" else None
        rows = min(shape) if use.node.op == "GatherNd" else shape[int(axis.ravel()[0]) if axis is not None else 0]
        low, high = place.back(0), place.back(rows - 1)
        evidence.lows.append(low)
        evidence.highs.append(high)
        evidence.points += [low, high]
        evidence.why.append(f"{use.node.op} {use.node.name}: an index of {rows} rows")

    def _compare(self, place: _Place, use: Use, evidence: _Evidence) -> list[_Place]:
        value = self._constant(use, 1 - use.position)
        if value is None or not value.size:
            return []
        if value.dtype == object:
            evidence.texts += [bytes(text) for text in value.ravel()]
        elif value.size <= _MOST_POINTS and value.dtype.kind in "fiu":
            evidence.points += [place.back(float(each)) for each in value.ravel()]
            evidence.points += [place.back(float(each)) + step for each in value.ravel() for step in (-1, 1)]
        else:
            return []
        evidence.why.append(f"{use.node.op} {use.node.name}: compared with {_shown(value)}")
        keeps = use.node.op in _EXTREMES
        return [attrs.evolve(place, tensor=Tensor(use.scope, use.node.name, 0))] if keeps else []

    def _clip(self, place: _Place, use: Use, evidence: _Evidence) -> list[_Place]:
        if use.position:
            return []
        ends = [value for value in (self._constant(use, 1), self._constant(use, 2)) if value is not None and value.size]
        evidence.points += [place.back(float(value.ravel()[0])) for value in ends]
        evidence.why.append(f"{use.node.op} {use.node.name}: clipped")
        return [attrs.evolve(place, tensor=Tensor(use.scope, use.node.name, 0))]

    def _one_hot(self, place: _Place, use: Use, evidence: _Evidence) -> list[_Place]:
        depth = self._constant(use, 1)
        if use.position == 0 and depth is not None and depth.size and place.scale == 1:
            rows = int(depth.ravel()[0])
            evidence.ranges.append((place.back(-1), place.back(rows)))  # beyond both ends is a row of zeros
            evidence.points += [place.back(each) for each in (-rows, -1, 0, rows - 1, rows)]
            evidence.why.append(f"OneHot {use.node.name}: a class of {rows}")
        return []

    def _divide(self, place: _Place, use: Use, evidence: _Evidence) -> list[_Place]:
        value = self._constant(use, 1 - use.position)
        if value is not None and value.size and use.position == 0:
            size = float(np.max(np.abs(value.astype(np.float64)))) or 1.0
            evidence.points += [place.back(each) for each in (-size - 1, -size, -1, 0, 1, size, size + 1)]
            evidence.ranges.append(_sorted(place.back(-3 * size), place.back(3 * size)))
            evidence.why.append(f"{use.node.op} {use.node.name}: divided by {_shown(value)}")
        return []

    def _limit(self, place: _Place, use: Use, evidence: _Evidence) -> list[_Place]:
        low, high = _LIMITS[use.node.op]
        ends = [None if end is None else place.back(end) for end in (low, high)]
        if place.scale < 0:
            ends.reverse()
        evidence.lows += [ends[0]] if ends[0] is not None else []
        evidence.highs += [ends[1]] if ends[1] is not None else []
        evidence.points += [end for end in ends if end is not None]
        evidence.why.append(f"{use.node.op} {use.node.name}: no NaN from {low} to {high}")
        return []

    def _bucket(self, place: _Place, use: Use, evidence: _Evidence) -> list[_Place]:
        boundaries = [float(each) for each in use.node.attr["boundaries"].list.f]
        evidence.points += [place.back(each) for each in boundaries]
        if boundaries:
            evidence.ranges.append(_sorted(place.back(min(boundaries) - 1), place.back(max(boundaries) + 1)))
        evidence.why.append(f"Bucketize {use.node.name}: {len(boundaries)} boundaries")
        return []

    def _lookup(self, place: _Place, use: Use, evidence: _Evidence) -> list[_Place]:
        if use.position == 1:
            table = self.following.inputs(use.scope, use.node)[0]
            keys = table_keys(self._model, self.following, table)
            texts = [key for key in keys if isinstance(key, bytes)]
            evidence.texts += texts[:_MOST_TEXTS]
            evidence.points += [place.back(float(key)) for key in keys if not isinstance(key, bytes)][:_MOST_POINTS]
            evidence.why.append(f"{use.node.op} {use.node.name}: a table of {len(keys)} keys")
        return []

    def _text(self, place: _Place, use: Use, evidence: _Evidence) -> list[_Place]:
        forms = {"StringToNumber": "digits", "DecodeRaw": "bytes", "DecodePaddedRaw": "bytes"}
        if use.position == 0:
            evidence.text_form = forms.get(use.node.op, use.node.op)
            height, width, *_ = *(noted_shape(use.node) or ())[-3:], None, None
            if height and width:
                evidence.image_size = height, width
            evidence.why.append(f"{use.node.op} {use.node.name}: strings that it reads")
        return []

    def _split(self, place: _Place, use: Use, evidence: _Evidence) -> list[_Place]:
        return [attrs.evolve(place, tensor=Tensor(use.scope, use.node.name, 1))] if use.position == 0 else []

    def _size(self, place: _Place, use: Use, evidence: _Evidence) -> list[_Place]:
        if use.position == _SIZES[use.node.op]:
            evidence.lows.append(0)
            evidence.highs.append(16)
            evidence.why.append(f"{use.node.op} {use.node.name}: a size")
        return []


_Rule = Callable[[_Finder, _Place, Use, _Evidence], list[_Place]]
_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys([*COMPARISONS, *_EQUALITIES, *_EXTREMES], _Finder._compare),
    **dict.fromkeys(_WHOLE_DIVISIONS, _Finder._divide),
    **dict.fromkeys(_LIMITS, _Finder._limit),
    **dict.fromkeys(_SIZES, _Finder._size),
    **dict.fromkeys(["StringToNumber", "DecodeRaw", "DecodePaddedRaw", *_IMAGE_DECODERS], _Finder._text),
    **dict.fromkeys(["LookupTableFind", "LookupTableFindV2"], _Finder._lookup),
    **dict.fromkeys(["StringSplit", "StringSplitV2"], _Finder._split),
    "ClipByValue": _Finder._clip,
    "OneHot": _Finder._one_hot,
    "Bucketize": _Finder._bucket,
}


def _note_scale(place: _Place, evidence: _Evidence) -> None:
    """Take the scale and offset that an input went through for those of its normalisation."""
    if place.scale == 1 and not place.offset:
        return
    width = (_SPREAD if place.by_channel else 1.0) + place.spread
    ends = sorted(place.back(end) for end in ((-width, width) if place.offset else (0.0, 1.0)))
    evidence.ranges.append((round(ends[0], 6), round(ends[1], 6)))
    evidence.points += ends
    evidence.why.append(f"{place.tensor.node}: scaled by {place.scale:.4g}, moved by {place.offset:.4g}")


def _outputs_of(use: Use) -> range:
    """Return which outputs of an operation are its input."""
    if use.node.op in ("Split", "SplitV"):
        return range(int(use.node.attr["num_split"].i))
    if use.node.op == "Unpack":
        return range(int(use.node.attr["num"].i))
    return range(2 if use.node.op in ("Switch", "RefSwitch") else 1)


def _sorted(left: float, right: float) -> tuple[float, float]:
    return (left, right) if left <= right else (right, left)


def _shown(value: np.ndarray[Any, Any]) -> str:
    first = value.ravel()[0]
    text = repr(first.decode(errors="replace")) if isinstance(first, bytes) else f"{float(first):.6g}"
    return text if value.size == 1 else f"{value.size} values such as {text}"
