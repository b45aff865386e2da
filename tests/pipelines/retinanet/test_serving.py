"""The serving signature, with a network that sees one white spot, and JPEG files of all kinds."""

import io

import numpy as np
import pytest

from tpu2gpu_pipelines.trainers.retinanet.anchors import make_anchors
from tpu2gpu_pipelines.trainers.retinanet.configuration import SIZES
from tpu2gpu_pipelines.trainers.retinanet.images import fit_image, read_jpeg
from tpu2gpu_pipelines.trainers.retinanet.network import BOXES, CLASSES
from tpu2gpu_pipelines.trainers.retinanet.serving import detect

TINY = SIZES["tiny"]


def picture(height, width, mode="RGB", spot=None):
    """A black JPEG file with a white rectangle at `ymin, xmin, ymax, xmax`."""
    from PIL import Image

    pixels = np.zeros((height, width), np.uint8)
    if spot is not None:
        pixels[spot[0] : spot[2], spot[1] : spot[3]] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", quality=95)
    return file.getvalue()


def see_white(images, training):
    """A network that knows: class 2 where an anchor is white and what is around it is not."""
    import tensorflow as tf

    assert not training
    anchors = make_anchors(TINY)
    sums = tf.cumsum(tf.cumsum(tf.reduce_mean(images, -1) / 255, axis=1), axis=2)
    sums = tf.pad(sums, [[0, 0], [1, 0], [1, 0]])
    corners = np.clip(np.rint(anchors).astype(int), 0, TINY.image_size)

    def at(y, x):
        return tf.gather_nd(tf.transpose(sums, [1, 2, 0]), np.stack([corners[:, y], corners[:, x]], 1))

    inside = tf.transpose(at(2, 3) - at(0, 3) - at(2, 1) + at(0, 1))
    areas = np.prod(anchors[:, 2:] - anchors[:, :2], axis=1)
    ious = inside / (areas + sums[:, -1, -1, None] - inside)
    logits = tf.stack([tf.fill(tf.shape(ious), -9.0), 20 * ious - 10, *[tf.fill(tf.shape(ious), -9.0)] * 2], axis=-1)
    return {CLASSES: logits, BOXES: tf.zeros([tf.shape(ious)[0], len(anchors), 4])}


@pytest.fixture(scope="module")
def serve():
    import tensorflow as tf

    return tf.function(
        lambda image_bytes: detect(see_white, TINY, image_bytes), input_signature=[tf.TensorSpec([None], tf.string)]
    )


def iou(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = np.prod(np.maximum(sides, 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


@pytest.mark.parametrize(
    ("height", "width", "mode"),
    [(128, 128, "RGB"), (97, 211, "RGB"), (333, 128, "L"), (640, 427, "RGB"), (61, 60, "L")],
)
def test_boxes_are_in_pixels_of_the_file_s_own_image(serve, height, width, mode):
    spot = np.array([height * 0.25, width * 0.3, height * 0.25, width * 0.3])
    spot[2:] += min(height, width) * 0.4
    found = serve([picture(height, width, mode, spot.astype(int))])
    assert found["count"].numpy()[0] >= 1
    assert found["classes"].numpy()[0, 0] == 2
    assert iou(found["boxes"].numpy()[0, 0], spot) > 0.5


def test_files_of_different_sizes_go_in_one_batch_and_do_not_touch_each_other(serve):
    files = [picture(90, 160, spot=(20, 30, 60, 70)), picture(50, 50), picture(201, 99, "L", spot=(100, 30, 150, 80))]
    together = {name: it.numpy() for name, it in serve(files).items()}
    assert {name: it.shape for name, it in together.items()} == {
        "boxes": (3, 20, 4),
        "scores": (3, 20),
        "classes": (3, 20),
        "count": (3,),
    }
    assert together["count"][1] == 0
    assert not any(together[name][1].any() for name in together)
    for row, file in enumerate(files):
        for name, alone in serve([file]).items():
            np.testing.assert_allclose(together[name][row], alone.numpy()[0], atol=1e-4)


def test_boxes_do_not_leave_the_image(serve):
    boxes = serve([picture(60, 200, spot=(0, 0, 60, 60))])["boxes"].numpy()[0]
    assert boxes.min() >= 0
    assert boxes[:, [0, 2]].max() <= 60
    assert boxes[:, [1, 3]].max() <= 200


def test_what_is_behind_the_last_detection_is_zero(serve):
    found = {name: it.numpy()[0] for name, it in serve([picture(100, 100, spot=(20, 20, 60, 60))]).items()}
    count = found["count"]
    assert 0 < count < 20
    assert (found["classes"][:count] == 2).all()
    assert not any(found[name][count:].any() for name in ("boxes", "scores", "classes"))
    assert (np.diff(found["scores"]) <= 0).all()


def test_a_damaged_file_is_refused(serve):
    import tensorflow as tf

    whole = picture(80, 80)
    for file in (whole[: len(whole) // 3], b"", b"no picture"):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?i)jpeg|image"):
            serve([whole, file])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (300, 7), (128, 128), (129, 128)])
def test_an_image_keeps_its_shape_in_the_square(height, width):
    square, scale = fit_image(read_jpeg(picture(height, width, spot=(0, 0, height, width))), 128)
    assert square.shape == (128, 128, 3)
    fitted = np.rint(scale.numpy() * [height, width]).astype(int)
    assert fitted.max() == 128
    assert (square.numpy()[: fitted[0], : fitted[1]] > 240).all()
    assert not square.numpy()[fitted[0] :].any()
    assert not square.numpy()[:, fitted[1] :].any()


def test_greyscale_is_read_as_three_equal_channels():
    image = read_jpeg(picture(20, 30, "L", spot=(5, 5, 15, 25))).numpy()
    assert image.shape == (20, 30, 3)
    assert (image == image[..., :1]).all()
