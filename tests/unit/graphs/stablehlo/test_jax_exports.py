"""Models that JAX exported become nodes whose outputs are those of the module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.models.jax_exports import EXPORTS, REFERENCES, inputs_of, original_outputs, unpack
from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.inspecting import inspect_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import UnsupportedError
from tpu2gpu.graphs.formats.saved_model import read_saved_model
from tpu2gpu.graphs.ops import DT_BFLOAT16

Built = Callable[..., Path]
_IS_NEW = tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 20)  # its StableHLO is that of jax 0.9
_QUICK = ("cnn_jax04", "lstm_jax04", "transformer_batch4_jax04", "keras_on_jax_jax04", "lstm_xlaops_jax04")
_SAME = 1e-5
_ROUNDED = 2e-2  # the module computes in bfloat16, the import in float32


def check_import(source: Path, target: Path, name: str, reference: Path) -> None:
    result = import_model(source, target)
    model = read_saved_model(target)
    assert not [node.name for node in model.nodes.values() if node.op.startswith("Xla")]
    assert any("became" in line for line in result.remarks)
    for examples in (4,) if "batch4" in name else (1, 3):
        batch = inputs_of(name, examples)
        (given,) = model.signatures["serving_default"].inputs
        outputs = predict(target, **{given: batch["x"]})
        for key, wanted in original_outputs(reference, batch).items():
            found = outputs[key]
            assert found.shape == wanted.shape
            allowed = (_ROUNDED if "bfloat16" in name else _SAME) * np.abs(wanted).max()
            assert np.abs(found.astype(float) - wanted.astype(float)).max() <= allowed, key


@pytest.mark.parametrize("name", _QUICK)
def test_an_export_becomes_nodes_with_the_same_outputs(name: str, built: Built, tmp_path: Path) -> None:
    source = built(unpack, name)
    check_import(source, tmp_path / "model", name, source)


@pytest.mark.slow
@pytest.mark.parametrize("name", [it for it in EXPORTS if it not in _QUICK and (_IS_NEW or "jax09" not in it)])
def test_every_export_becomes_nodes_with_the_same_outputs(name: str, built: Built, tmp_path: Path) -> None:
    check_import(built(unpack, name), tmp_path / "model", name, built(unpack, REFERENCES.get(name, name)))


def test_a_look_names_the_module_its_versions_and_platforms(built: Built) -> None:
    found = inspect_model(built(unpack, "cnn_jax04"))
    assert found.importable
    assert "turns 1 StableHLO module into nodes" in found.verdict
    assert found.report["stablehlo_modules"] == ["XlaCallModule 'XlaCallModule' (version 9, StableHLO 0.9.0, for CPU)"]


def test_of_several_platforms_the_code_of_the_gpu_is_taken(built: Built, tmp_path: Path) -> None:
    result = import_model(built(unpack, "embedding_jax04"), tmp_path / "model")
    assert result.report["stablehlo"][0]["platform"] == "CUDA"


def test_a_module_is_kept_whole_where_that_is_asked_for(built: Built, tmp_path: Path) -> None:
    options = ImportOptions(keep_stablehlo=True)
    result = import_model(built(unpack, "cnn_jax04"), tmp_path / "model", options)
    assert result.report["ops"]["XlaCallModule"] == 1
    assert "kept whole" in result.remarks[0]


def test_parameters_in_bfloat16_are_widened(built: Built, tmp_path: Path) -> None:
    source = built(unpack, "bfloat16_jax04")
    import_model(source, tmp_path / "model")
    model = read_saved_model(tmp_path / "model")
    slots = [slot.type_of(node) for node in model.nodes.values() for slot in model.ops.outputs(node) or ()]
    assert DT_BFLOAT16 not in slots
    loaded = tf.saved_model.load(str(source))
    variables = [it.numpy().astype(np.float64) for it in loaded.signatures["serving_default"].variables]
    p = {it.ndim * it.shape[-1]: it for it in variables}
    batch = inputs_of("bfloat16", 64)
    wanted = np.maximum(batch["x"].astype(np.float64) @ p[64] + p[32], 0) @ p[8] + p[4]
    (found,) = predict(tmp_path / "model", **batch).values()
    assert np.abs(found - wanted).max() <= _SAME * np.abs(wanted).max()


@pytest.mark.skipif(_IS_NEW, reason="this TensorFlow reads what jax 0.9 wrote")
def test_what_newer_libraries_wrote_is_refused_with_both_versions(built: Built, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"StableHLO 1\.\d+\.\d+.*TensorFlow 2\.16.*cannot read the module"):
        import_model(built(unpack, "lstm_jax09"), tmp_path / "model")
    found = inspect_model(built(unpack, "lstm_jax09"))
    assert not found.importable
    assert "TensorFlow 2.21" in found.verdict
