"""A batch that stands in shapes, stacks and tables of a training graph is freed: any other batch is answered right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.models import baked_batches
from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.options import ImportOptions


@pytest.mark.parametrize("kind", baked_batches.KINDS)
def test_a_batch_written_into_a_network_is_freed(kind: str, built: Callable[..., Path], tmp_path: Path) -> None:
    source = built(baked_batches.baked, kind)
    result = import_model(source, tmp_path / "model", ImportOptions(output=("answer=answer",)))
    assert result.report["batch"]["trained_with"] == baked_batches.TRAINED_WITH
    assert result.report["batch"]["held_by"] == {}
    wanted = np.load(source / "answers.npz")["answer"]
    found = predict(tmp_path / "model", features=baked_batches.X)["answer"]
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", baked_batches.HELD)
def test_a_batch_that_cannot_be_proved_stays_and_the_reason_is_told(
    kind: str, built: Callable[..., Path], tmp_path: Path
) -> None:
    source = built(baked_batches.baked, kind)
    result = import_model(source, tmp_path / "model", ImportOptions(output=("answer=answer",)))
    batch = baked_batches.TRAINED_WITH
    assert result.report["batch"]["batch"] == batch
    assert result.report["batch"]["held_by"]
    found = predict(tmp_path / "model", features=baked_batches.X[:batch])["answer"]
    assert found.shape[0] == batch
