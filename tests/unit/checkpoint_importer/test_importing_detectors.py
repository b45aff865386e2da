"""A detector of TensorFlow 1.15's days answers as TensorFlow 1.15, at sizes of the batch that it was not made for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.models import tpu_training
from tests.models.predictions import predict
from tpu2gpu.checkpoint_importer.importing import import_model
from tpu2gpu.checkpoint_importer.options import ImportOptions
from tpu2gpu.errors import SignatureError

Built = Callable[..., Path]
HEADS = ("logits=concat", "codes=concat_1")


def test_a_training_checkpoint_answers_as_tensorflow_1_15_at_other_batches(built: Built, tmp_path: Path) -> None:
    source = built(tpu_training.genuine, "detector")
    result = import_model(source, tmp_path / "model", ImportOptions(output=HEADS))
    batch = result.report["batch"]
    assert (batch["trained_with"], batch["held_by"]) == (4, {})
    assert "batch_normalization/beta/Momentum" in result.report["checkpoint"]["dropped"]["slots"]
    assert result.report["checkpoint"]["unused"] == []
    known = np.load(source / "answers.npz")
    images = tpu_training.normalised(known["pixels"])
    for count in (1, 3, 5):
        found = predict(tmp_path / "model", features=images[:count])
        for name in ("logits", "codes"):
            error = np.abs(found[name] - known[name][:count]).max()
            assert error < 1e-6 * np.abs(known[name]).max(), (name, count)


def test_heads_that_have_a_loss_each_are_named_to_choose_from(built: Built, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="2 losses") as caught:
        import_model(built(tpu_training.genuine, "detector"), tmp_path / "model")
    assert [detail.partition(":")[0] for detail in caught.value.details] == ["concat", "concat_1"]


@pytest.mark.parametrize("suppression", [pytest.param("combined", marks=pytest.mark.slow), "per_class"])
def test_an_export_with_jpeg_strings_finds_the_same_boxes(suppression: str, built: Built, tmp_path: Path) -> None:
    source = built(tpu_training.genuine, "detector_exported")
    import_model(source / suppression, tmp_path / "model")
    known = tpu_training.detections(source, suppression)
    for count in (1, 3, 5):
        wanted = known[count]
        found = predict(tmp_path / "model", jpegs=tpu_training.jpegs(source)[:count])
        assert 0 < wanted["num_detections"].min() < 10
        assert np.array_equal(found["num_detections"], wanted["num_detections"])
        assert np.array_equal(found["detection_classes"], wanted["detection_classes"])
        for name in ("detection_boxes", "detection_scores"):
            assert np.abs(found[name] - wanted[name]).max() < 1e-6 * np.abs(wanted[name]).max(), (name, count)
