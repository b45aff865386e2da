"""An error keeps its kind, and its exit code, on the way from one process to another."""

from __future__ import annotations

import pytest

from tpu2gpu.errors import ConversionError, Tpu2GpuError, UnsupportedError, from_json
from tpu2gpu.graphs.stablehlo.lowering.lowering import NotLoweredError
from tpu2gpu.trt_converter.partition.assignment import NothingToAccelerateError
from tpu2gpu.trt_converter.partition.suppression import SuppressionBesideError


@pytest.mark.parametrize(
    ("kind", "arrives_as"),
    [
        (Tpu2GpuError, Tpu2GpuError),
        (ConversionError, ConversionError),
        (NothingToAccelerateError, ConversionError),
        (SuppressionBesideError, ConversionError),
        (NotLoweredError, UnsupportedError),
    ],
)
def test_a_kind_of_one_room_arrives_as_the_kind_that_it_derives_from(
    kind: type[Tpu2GpuError], arrives_as: type[Tpu2GpuError]
) -> None:
    found = from_json(kind("it does not", details=["here"], hint="do this").to_json())
    assert type(found) is arrives_as
    assert (found.message, list(found.details), found.hint) == ("it does not", ["here"], "do this")
    assert found.exit_code == kind.exit_code
