"""The losses, against a second implementation in plain numpy."""

import numpy as np

from tpu2gpu_pipelines.trainers.retinanet.losses import BoxLoss, FocalLoss


def plain_focal(classes, logits):
    losses = []
    for row_classes, row_logits in zip(classes, logits, strict=True):
        total = 0.0
        for kind, values in zip(row_classes, row_logits, strict=True):
            if kind < 0:
                continue
            for index, logit in enumerate(values, 1):
                chance = 1 / (1 + np.exp(-float(logit)))
                right = chance if index == kind else 1 - chance
                total -= (0.25 if index == kind else 0.75) * (1 - right) ** 2 * np.log(right)
        losses.append(total / max(1, np.count_nonzero(row_classes > 0)))
    return losses


def test_focal_loss_is_that_of_the_second_implementation():
    random = np.random.default_rng(3)
    classes = random.integers(-1, 4, (3, 50)).astype(np.int32)
    classes[2] = 0  # an image without objects
    logits = random.normal(0, 3, (3, 50, 3)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(FocalLoss().call(classes, logits)), plain_focal(classes, logits), rtol=1e-4)


def test_focal_loss_stays_finite_where_the_network_is_sure_and_wrong():
    logits = np.array([[[1e4, -1e4]]], np.float32)
    assert np.isfinite(np.asarray(FocalLoss().call(np.array([[2]]), logits))).all()


def test_box_loss_is_that_of_the_second_implementation():
    random = np.random.default_rng(4)
    wanted, found = (random.normal(0, 0.3, (2, 20, 4)).astype(np.float32) for _ in range(2))
    is_box = random.integers(0, 2, (2, 20))
    is_box[1] = 0
    expected = []
    for rows, others, marks in zip(wanted, found, is_box, strict=True):
        total = 0.0
        for row, other, mark in zip(rows, others, marks, strict=True):
            error = np.abs(row - other) * mark
            total += float(np.sum(np.where(error < 0.1, error**2 / 0.2, error - 0.05)))
        expected.append(total / max(1, np.sum(marks)))
    true = np.concatenate([wanted, is_box[..., None].astype(np.float32)], axis=-1)
    np.testing.assert_allclose(np.asarray(BoxLoss().call(true, found)), expected, rtol=1e-4)
