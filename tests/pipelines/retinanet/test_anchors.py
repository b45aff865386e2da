"""Anchors and box coding, against a second implementation in plain numpy."""

import attrs
import numpy as np
import pytest

from tpu2gpu_pipelines.trainers.retinanet.anchors import (
    PER_CELL,
    decode_boxes,
    encode_boxes,
    make_anchors,
    match_anchors,
    overlap,
)
from tpu2gpu_pipelines.trainers.retinanet.configuration import SIZES

TINY = SIZES["tiny"]


def plain_anchors(config):
    """One by one, by centre, area and ratio."""
    found = []
    for level in range(config.levels[0], config.levels[1] + 1):
        stride = 2**level
        for row in range(config.image_size // stride):
            for column in range(config.image_size // stride):
                for octave in range(3):
                    for ratio in (0.5, 1.0, 2.0):
                        area = (config.anchor_scale * stride * 2 ** (octave / 3)) ** 2
                        width = (area / ratio) ** 0.5
                        height = area / width
                        y, x = (row + 0.5) * stride, (column + 0.5) * stride
                        found.append([y - height / 2, x - width / 2, y + height / 2, x + width / 2])
    return np.array(found)


def plain_iou(a, b):
    height, width = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(height, 0) * max(width, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


@pytest.fixture(scope="module")
def anchors():
    return make_anchors(TINY)


def test_anchors_are_those_of_the_second_implementation(anchors):
    assert anchors.dtype == np.float32
    np.testing.assert_allclose(anchors, plain_anchors(TINY), rtol=1e-5, atol=1e-4)


def test_the_real_size_has_as_many_anchors_as_the_paper_tells():
    assert len(make_anchors(SIZES["resnet50-fpn-640"])) == PER_CELL * sum(n * n for n in (80, 40, 20, 10, 5)) == 76725


def test_coded_boxes_are_those_of_the_second_implementation(anchors):
    random = np.random.default_rng(1)
    corner = random.uniform(0, 100, (len(anchors), 2))
    boxes = np.concatenate([corner, corner + random.uniform(3, 60, (len(anchors), 2))], 1).astype(np.float32)
    wanted = []
    for box, anchor in zip(boxes.astype(np.float64), anchors.astype(np.float64), strict=True):
        height, width = anchor[2] - anchor[0], anchor[3] - anchor[1]
        y, x = (box[0] + box[2] - anchor[0] - anchor[2]) / 2, (box[1] + box[3] - anchor[1] - anchor[3]) / 2
        sides = np.log((box[2] - box[0]) / height), np.log((box[3] - box[1]) / width)
        wanted.append([y / height / 0.1, x / width / 0.1, sides[0] / 0.2, sides[1] / 0.2])
    deltas = encode_boxes(boxes, anchors).numpy()
    np.testing.assert_allclose(deltas, wanted, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(decode_boxes(deltas, anchors).numpy(), boxes, atol=2e-3)


def test_a_wild_delta_makes_no_infinite_box(anchors):
    assert np.all(np.isfinite(decode_boxes(np.full_like(anchors, 1e6), anchors).numpy()))


def test_overlaps_are_those_of_the_second_implementation(anchors):
    boxes = np.array([[10, 10, 50, 60], [0, 0, 128, 128], [200, 200, 210, 210]], np.float32)
    found = overlap(anchors[::37], boxes).numpy()
    np.testing.assert_allclose(found, [[plain_iou(a, b) for b in boxes] for a in anchors[::37]], atol=1e-5)


def test_each_anchor_is_given_its_box(anchors):
    boxes = np.array([[20, 20, 60, 60], [70, 64, 120, 128]], np.float32)
    classes, deltas = (it.numpy() for it in match_anchors(boxes, np.array([3, 1]), anchors))
    for anchor, kind, delta in zip(anchors, classes, deltas, strict=True):
        ious = [plain_iou(anchor, box) for box in boxes]
        best = int(np.argmax(ious))
        if kind > 0:
            np.testing.assert_allclose(decode_boxes(delta[None], anchor[None]).numpy()[0], boxes[best], atol=1e-2)
            assert kind == (3, 1)[best]
        else:
            assert np.max(ious) < 0.5
            assert not delta.any()
            assert (kind == -1) == (np.max(ious) >= 0.4)
    assert set(classes) == {-1, 0, 1, 3}


def test_a_box_that_no_anchor_fits_gets_the_best_ones(anchors):
    thin = np.array([[10, 10, 12, 120]], np.float32)
    classes, _ = match_anchors(thin, np.array([2]), anchors)
    best = np.max([plain_iou(anchor, thin[0]) for anchor in anchors])
    assert best < 0.4
    assert np.count_nonzero(classes.numpy() == 2) >= 1


def test_an_image_without_objects_is_background(anchors):
    classes, deltas = match_anchors(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), anchors)
    assert not classes.numpy().any()
    assert not deltas.numpy().any()


def test_levels_beyond_the_network_s_five_have_anchors_too():
    config = attrs.evolve(TINY, levels=(3, 7))
    np.testing.assert_allclose(make_anchors(config), plain_anchors(config), rtol=1e-5, atol=1e-4)
