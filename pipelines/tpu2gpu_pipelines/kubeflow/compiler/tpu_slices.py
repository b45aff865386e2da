"""Slices of TPU chips as Google's clusters have them: shapes, and how many hosts carry them.

Source: https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus (labels, topologies, machine types).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import attrs

from tpu2gpu.errors import UnsupportedError, UsageError
from tpu2gpu_pipelines.kubeflow_options import TpuOptions

_TOPOLOGY = re.compile(r"[1-9]\d*(x[1-9]\d*){1,2}")
_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_SMALL_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4")
_OF_SEVERAL = 4  # chips of each host of a slice that has several, in every generation


@attrs.frozen
class _Generation:
    """One generation of TPUs.

    Attributes:
        label: The value of the label of its nodes.
        one_host: The most chips of a slice that one host carries.
        most: The most chips of a slice.
        shapes: The slices that there are; those of three dimensions go on from there in multiples of four.
    """

    label: str
    one_host: int
    most: int
    shapes: Sequence[str]


_GENERATIONS = {
    "v4": _Generation("tpu-v4-podslice", 4, 4096, _SMALL_CUBES),
    "v5e": _Generation("tpu-v5-lite-podslice", 8, 256, _FLAT),
    "v5p": _Generation("tpu-v5p-slice", 4, 6144, _SMALL_CUBES),
    "v6e": _Generation("tpu-v6e-slice", 8, 256, _FLAT),
}


@attrs.frozen
class TpuSlice:
    """A slice.

    Attributes:
        label: The value of `cloud.google.com/gke-tpu-accelerator` on its nodes.
        topology: The value of `cloud.google.com/gke-tpu-topology`.
        hosts: How many machines carry it; each runs one pod.
        chips_per_host: How many chips each of them has.
    """

    label: str
    topology: str
    hosts: int
    chips_per_host: int

    @property
    def chips(self) -> int:
        """All of them."""
        return self.hosts * self.chips_per_host


def find_slice(tpu: TpuOptions) -> TpuSlice:
    """Find the slice that options ask for.

    Raises:
        UsageError: The topology is not one.
        UnsupportedError: There is no such slice.
    """
    if not _TOPOLOGY.fullmatch(tpu.topology):
        raise UsageError(f"tpu.topology '{tpu.topology}': must be two or three numbers, as in 2x2 or 2x2x1")
    generation = _GENERATIONS[tpu.type]
    sides = [int(side) for side in tpu.topology.split("x")]
    chips = math.prod(sides)
    if tpu.topology not in generation.shapes and not _is_large_cube(sides, generation):
        raise UnsupportedError(f"tpu.topology '{tpu.topology}': {tpu.type} has {_offered(generation)}")
    if chips <= generation.one_host:
        return TpuSlice(generation.label, tpu.topology, 1, chips)
    return TpuSlice(generation.label, tpu.topology, chips // _OF_SEVERAL, _OF_SEVERAL)


def _is_large_cube(sides: Sequence[int], generation: _Generation) -> bool:
    fits = len(sides) == 3 and all(side % 4 == 0 for side in sides) and math.prod(sides) <= generation.most
    return fits and generation.shapes is _SMALL_CUBES and list(sides) == sorted(sides)


def _offered(generation: _Generation) -> str:
    shapes = ", ".join(generation.shapes)
    if generation.shapes is _SMALL_CUBES:
        return f"{shapes}, and rising multiples of 4 up to {generation.most} chips, as 4x4x8 and 4x8x8"
    return shapes
