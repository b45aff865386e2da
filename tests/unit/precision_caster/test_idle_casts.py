"""A cast that casts nothing says so instead of passing the model on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models import networks
from tests.models.jax_exports import unpack
from tpu2gpu.errors import PrecisionRefusedError
from tpu2gpu.precision_caster.casting import cast_model
from tpu2gpu.precision_caster.options import CastOptions

Built = Callable[..., Path]


def test_a_module_that_no_cast_looks_into_is_named(built: Built, tmp_path: Path) -> None:
    with pytest.raises(PrecisionRefusedError, match="nothing of the model was cast") as refused:
        cast_model(built(unpack, "lstm_jax04"), tmp_path / "model", CastOptions(measure=False))
    assert "version 9, StableHLO 0.9.0" in refused.value.details[0]
    assert "tpu2gpu import" in refused.value.hint
    assert not (tmp_path / "model").exists()


def test_it_is_written_all_the_same_where_that_is_asked_for(built: Built, tmp_path: Path) -> None:
    options = CastOptions(measure=False, allow_nothing=True)
    assert cast_model(built(unpack, "lstm_jax04"), tmp_path / "model", options).cast_tensors == 0


def test_a_model_that_has_the_precision_already_is_no_such_case(built: Built, tmp_path: Path) -> None:
    cast_model(built(networks.convnet), tmp_path / "once", CastOptions(measure=False))
    assert cast_model(tmp_path / "once", tmp_path / "twice", CastOptions(measure=False)).cast_tensors == 0
    assert cast_model(built(networks.convnet), tmp_path / "wide", CastOptions(to="float32")).cast_tensors == 0
