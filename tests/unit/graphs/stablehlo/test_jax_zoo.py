"""Every model that JAX exported goes through import, cast, freeze, convert, engine: all of it in the core."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from tests.models.jax_exports import EXPORTS, unpack
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.freezer.freezing import freeze_model
from tpu2gpu.freezer.options import FreezeOptions
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.precision_caster.casting import cast_model
from tpu2gpu.trt_converter.converting import convert_model
from tpu2gpu.trt_converter.options import ConvertOptions

Built = Callable[..., Path]
_READABLE = [name for name in EXPORTS if "jax04" in name or tf.__version__ >= "2.20"]


@pytest.mark.slow
@pytest.mark.parametrize("name", _READABLE)
def test_all_of_the_compute_reaches_the_core(name: str, built: Built, tmp_path: Path) -> None:
    import_model(built(unpack, name), tmp_path / "imported")
    cast = cast_model(tmp_path / "imported", tmp_path / "cast")
    assert cast.cast_tensors > 0
    freeze_model(tmp_path / "cast", tmp_path / "frozen", FreezeOptions(fold_constants=True))
    options = ConvertOptions(backend="onnx", layout="plain", min_coverage=0.99)
    for step in ("imported", "frozen"):
        result = convert_model(tmp_path / step, tmp_path / f"serving_{step}", options)
        assert result.core_coverage >= 0.99
        assert result.relative_error <= (1e-5 if step == "imported" else 2e-2)


@pytest.mark.slow
def test_batch_norms_of_jax_are_folded_into_convolutions(built: Built, tmp_path: Path) -> None:
    import_model(built(unpack, "resnet18_jax04"), tmp_path / "imported")
    options = FreezeOptions(fold_constants=True, fold_batch_norm=True)
    result = freeze_model(tmp_path / "imported", tmp_path / "frozen", options)
    assert len(result.report["cleanups"]["fold_batch_norm"]["folded"]) == 20
    assert "Sub" not in read_saved_model(tmp_path / "frozen").op_counts()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transformer_jax04", "transformer_xlaops_jax04", "vit_jax04"])
def test_what_jax_takes_apart_is_one_op_in_the_file_of_the_engine(name: str, built: Built, tmp_path: Path) -> None:
    import onnx

    import_model(built(unpack, name), tmp_path / "imported")
    convert_model(tmp_path / "imported", tmp_path / "serving", ConvertOptions(backend="onnx", layout="plain"))
    (file,) = (tmp_path / "serving").rglob("*.onnx")
    ops = {node.op_type for node in onnx.load(file, load_external_data=False).graph.node}
    assert {"Softmax", "MatMul", "LayerNormalization", "Erf" if "vit" in name else "Tanh"} <= ops
    assert not ops & {"Exp", "Expand", "ReduceMax", "ReduceSum", "ReduceMean", "Sqrt", "Loop"} - (
        {"Expand"} if "vit" in name else set()
    )


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.parametrize("name", _READABLE)
def test_an_engine_is_built_of_it(name: str, built: Built, tmp_path: Path) -> None:
    import_model(built(unpack, name), tmp_path / "imported")
    options = ConvertOptions(backend="tensorrt_rtx", layout="plain")
    result = convert_model(tmp_path / "imported", tmp_path / "serving", options)
    assert (result.verified_level, result.engine_coverage) == ("engine_built", 1.0)
