"""`--input` with sizes that no tensor has."""

from __future__ import annotations

import pytest

from tpu2gpu.checkpoint_importer.options import parse_inputs
from tpu2gpu.errors import UsageError


@pytest.mark.parametrize("shape", ["9" * 30, "9" * 5000, "-5", "4294967296x4294967296", "x".join("1" * 40), "\u00b2"])
def test_a_size_that_no_tensor_has_is_refused(shape: str) -> None:
    with pytest.raises(UsageError, match="inputs have the form"):
        parse_inputs([f"x:float32:{shape}"])
