"""A conversion says how much of the compute its core holds, and refuses too little of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models.jax_exports import unpack
from tpu2gpu.errors import CoverageRefusedError, UsageError
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions

Built = Callable[..., Path]


def test_too_little_compute_in_the_core_is_told_and_refused(built: Built, tmp_path: Path) -> None:
    source = built(unpack, "cnn_batch4_jax04")
    result = convert_model(source, tmp_path / "serving", ConvertOptions(backend="onnx"))
    assert result.core_coverage == 0
    assert "0.0 % of the compute" in result.remarks[0]
    options = ConvertOptions(backend="onnx", min_coverage=0.5)
    with pytest.raises(CoverageRefusedError, match=r"--min-coverage 0\.5: 0\.0 % of the compute") as refused:
        convert_model(source, tmp_path / "refused", options)
    assert "tpu2gpu import" in refused.value.details[0]
    assert not (tmp_path / "refused").exists()


def test_a_share_is_at_most_all() -> None:
    with pytest.raises(UsageError, match="at most 1"):
        ConvertOptions(min_coverage=1.1)
