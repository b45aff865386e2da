"""Switches of training are folded by what hangs on them, and any placeholder can be given a value for good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import switched_graphs
from tests.models.predictions import predict
from tests.models.switched_graphs import X
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.options import ImportOptions, ImportResult
from tpu2gpu.errors import SignatureError, UsageError

Built = Callable[..., Path]


def imported(source: Path, target: Path, **options: Any) -> ImportResult:
    return import_model(source, target, ImportOptions(**options))


def inputs(result: ImportResult) -> set[str]:
    return set(result.report["signatures"]["serving_default"]["inputs"])


@pytest.mark.parametrize("kind", switched_graphs.KINDS)
def test_an_unnamed_switch_of_training_is_folded_to_inference(kind: str, built: Built, tmp_path: Path) -> None:
    source = built(switched_graphs.switched, kind)
    result = imported(source, tmp_path / "model", output=("logits=logits",))
    assert inputs(result) == {"x"}
    folded = result.report["to_inference"]["training_phases"]
    assert folded == (["Placeholder", "Placeholder_1"] if kind == "nested" else ["Placeholder"])
    wanted = np.load(source / "answers.npz")["logits"]
    assert np.allclose(predict(tmp_path / "model", x=X)["logits"], wanted, rtol=1e-6, atol=1e-6)


def test_a_frozen_graph_is_served_without_its_training_flag(built: Built, tmp_path: Path) -> None:
    source = built(switched_graphs.frozen)
    result = imported(source, tmp_path / "model")
    assert inputs(result) == {"x", "minus", "power", "scale"}  # these change answers and no training: they stay
    assert result.report["to_inference"]["training_phases"] == ["is_training"]
    feeds = {"x": X, "minus": np.True_, "power": np.int32(2), "scale": np.arange(6, dtype=np.float32)}
    assert np.allclose(predict(tmp_path / "model", **feeds)["y"], -2 * (X + 1) ** 2 * np.arange(6), rtol=1e-5)


def test_placeholders_of_any_type_are_fixed(built: Built, tmp_path: Path) -> None:
    source = built(switched_graphs.frozen)
    result = imported(source, tmp_path / "model", fix=("minus=true", "power=3", "scale=1,2,3,4,5,6.5"))
    assert inputs(result) == {"x"}
    assert result.report["to_inference"]["fixed_inputs"] == ["minus", "power", "scale"]
    assert "fixes 3 inputs" in result.report["summary"]
    wanted = -2 * (X + 1) ** 3 * np.float32([1, 2, 3, 4, 5, 6.5])
    assert np.allclose(predict(tmp_path / "model", x=X)["y"], wanted, rtol=1e-5, atol=1e-5)


def test_inputs_of_a_saved_model_are_fixed(built: Built, tmp_path: Path) -> None:
    frozen = built(switched_graphs.frozen)
    imported(frozen, tmp_path / "open")
    result = imported(tmp_path / "open", tmp_path / "model", fix=("minus=0", "power=1", "scale=2"))
    assert inputs(result) == {"x"}
    assert np.allclose(predict(tmp_path / "model", x=X)["y"], 4 * (X + 1), rtol=1e-6)
    assert result.report["to_inference"]["fixed_inputs"] == ["minus", "power", "scale"]


def test_a_switch_of_a_checkpoint_is_fixed_by_the_placeholders_name(built: Built, tmp_path: Path) -> None:
    source = built(switched_graphs.switched, "inverted")
    imported(source, tmp_path / "model", output=("logits=logits",), fix=("Placeholder=true",))
    wanted = np.load(source / "answers.npz")["logits"]
    assert np.allclose(predict(tmp_path / "model", x=X)["logits"], wanted, rtol=1e-6, atol=1e-6)


def test_values_that_cannot_be_are_refused_together(built: Built, tmp_path: Path) -> None:
    source = built(switched_graphs.frozen)
    with pytest.raises(SignatureError, match="--fix: inputs cannot have the given values") as refusal:
        imported(source, tmp_path / "model", fix=("minus=perhaps", "power=1.5", "scale=1,2", "powr=1", "x=1,2"))
    assert refusal.value.details == (
        "minus: 'perhaps' is no bool []",
        "power: '1.5' is no int32 []",
        "scale: '1,2' is no float32 [6]",
        "powr: no input and no placeholder is called so; did you mean 'power'?",
        "x: '1,2' is no float32 [?, 6]",
    )
    with pytest.raises(UsageError, match="--fix minus: must be INPUT=VALUE"):
        imported(source, tmp_path / "model", fix=("minus",))
