"""A model that runs in float32 and rounds what a cast would make narrow, region by region."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from tpu2gpu.graphs.formats.saved_model import write_saved_model
from tpu2gpu.graphs.model import ServingModel
from tpu2gpu.graphs.nodes import join_tensor, split_tensor
from tpu2gpu.graphs.ops import DT_BOOL, DT_FLOAT
from tpu2gpu.graphs.passes.precision.observed import find_observed
from tpu2gpu.graphs.passes.precision.policy import Policy
from tpu2gpu.graphs.passes.precision.regions import Region
from tpu2gpu.graphs.passes.precision.rounding import GATES, add_ranges, has_fixed_regions, round_regions
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.local.saved_model_runner import SavedModelRunner

_ROUNDED, _RANGES, _RANGE_OUTPUT = "rounded", "ranges", "cast_ranges"
Feeds = Mapping[str, Array]


@attrs.frozen
class Range:
    """The values of a region's tensors in float32.

    Attributes:
        largest: The largest magnitude.
        overflow_share: The largest share of a tensor's values that the narrow type does not hold.
        subnormal_share: The largest share of a tensor's values that have not all their digits there.
    """

    largest: float
    overflow_share: float
    subnormal_share: float


class Simulation:
    """A float32 model in which regions can be rounded to a narrow type.

    Args:
        model: The model, in float32; it is left as it is.
        signature: Which of its signatures runs.
        regions: What can be rounded.
        dtype: DataType number of the narrow type.
        policy: What stays float32 in narrow nodes.
        folder: Where models are written; removed by `close`.
        clamp: Whether weights that do not fit become the largest that does.

    Attributes:
        observed: The tensors by whose errors the rounding is judged, by their names for people.
    """

    def __init__(
        self,
        model: ServingModel,
        signature: str,
        regions: Sequence[Region],
        dtype: int,
        policy: Policy,
        folder: Path,
        *,
        clamp: bool,
    ) -> None:
        self._model, self._signature, self._regions = model, signature, regions
        self._dtype, self._policy, self._folder, self._clamp = dtype, policy, folder, clamp
        narrow = [name for region in regions if not region.function for name in region.nodes]
        inside = [name for name, node in model.nodes.items() if {it.function for it in regions} & _bodies(node)]
        self.observed = find_observed(model, signature, [*narrow, *inside])
        self._fixed = frozenset(number for number, it in enumerate(regions) if has_fixed_regions(model, it))
        self._runners: dict[tuple[frozenset[int], str], SavedModelRunner] = {}
        self._points: tuple[tuple[int, str], ...] = ()

    def run(self, feeds: Feeds, narrow: Collection[int]) -> dict[str, Array]:
        """Run a batch with some regions rounded; the observed tensors come back by their names."""
        fixed = self._fixed & frozenset(narrow)
        return self._run(self._runner(fixed, _ROUNDED), feeds, narrow)

    def ranges(self, batches: Sequence[Feeds]) -> dict[int, Range]:
        """Measure the ranges of each region's tensors in float32; those of bodies and loops are left out."""
        runner = self._runner(frozenset(), _RANGES)
        if not self._points:
            return {}
        found = np.max([self._run(runner, feeds, ())[_RANGE_OUTPUT] for feeds in batches], axis=0)
        rows: dict[int, list[Any]] = {}
        for (number, _), row in zip(self._points, found, strict=True):
            rows.setdefault(number, []).append(row)
        return {number: Range(*map(float, np.max(each, axis=0))) for number, each in rows.items()}

    def close(self) -> None:
        """Let go of the models and remove their files."""
        for runner in self._runners.values():
            runner.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, runner: SavedModelRunner, feeds: Feeds, narrow: Collection[int]) -> dict[str, Array]:
        gates = np.asarray([number in narrow for number in range(len(self._regions))])
        outputs = runner.run({**feeds, GATES: gates})
        names = [*self.observed]
        return {names[int(key.removeprefix("o"))] if key.startswith("o") else key: it for key, it in outputs.items()}

    def _runner(self, fixed: frozenset[int], signature: str) -> SavedModelRunner:
        if (fixed, signature) not in self._runners:
            folder = self._folder / f"model-{len(self._runners)}"
            folder.mkdir(parents=True)
            self._write(folder, fixed, signature)
            self._runners[fixed, signature] = SavedModelRunner(folder, signature=signature)
        return self._runners[fixed, signature]

    def _write(self, folder: Path, fixed: frozenset[int], signature: str) -> None:
        model = attrs.evolve(
            self._model,
            nodes=copy.deepcopy(self._model.nodes),
            functions=copy.deepcopy(self._model.functions),
            signatures={signature: copy.deepcopy(self._model.signature(self._signature))},
            variables=dict(self._model.variables),
        )
        rounded = round_regions(model, self._regions, fixed, self._dtype, self._policy, clamp=self._clamp)
        given = model.signatures[signature]
        given.outputs.clear()
        for number, tensor in enumerate(self.observed.values()):
            _set_info(given.outputs[f"o{number}"], rounded.new.get(tensor, tensor), DT_FLOAT)
        _set_info(given.inputs[GATES], rounded.gates, DT_BOOL, [len(self._regions)])
        if signature == _RANGES:
            self._points = rounded.points
            if rounded.points:
                ranges = add_ranges(model.nodes, [tensor for _, tensor in rounded.points], self._dtype)
                _set_info(given.outputs[_RANGE_OUTPUT], ranges, DT_FLOAT)
        model.prune()
        write_saved_model(model, folder)


def _set_info(info: Any, tensor: str, dtype: int, shape: Sequence[int] | None = None) -> None:
    name, index = split_tensor(tensor)
    info.name, info.dtype = f"{join_tensor(name, 0)}:{index}", dtype
    if shape is None:
        info.tensor_shape.unknown_rank = True
    for size in shape or ():
        info.tensor_shape.dim.add(size=size)


def _bodies(node: Any) -> set[str]:
    from tpu2gpu.graphs.calls import function_names

    return set(function_names(node))
