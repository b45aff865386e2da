"""Detection examples made of real photographs that dependencies bring along: nothing is downloaded.

A scene is a piece of a photograph on which one to three pieces of photographs lie, cut out as a disc, a square, a
triangle or a star. Training and held-out scenes come from different photographs, so that a detector that has learnt
pixels by heart finds nothing in the held-out ones.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tpu2gpu.errors import EnvironmentLacksError, foreign_errors
from tpu2gpu.interface import EXAMPLES, StepInterface, TextParameter
from tpu2gpu.options import option

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

CLASS_NAMES = ("disc", "square", "triangle", "star")
"""Class 1 is the first: 0 is the background, as in the TensorFlow Object Detection API."""

SCENE_FILE = "data_tfrecord-00000-of-00001.gz"
_PHOTOGRAPHS = {
    "train": (("scikit-learn", "china.jpg"), ("matplotlib", "grace_hopper.jpg")),
    "eval": (("scikit-learn", "flower.jpg"),),
}
_SHORT_SIDE, _LONG_SIDE = (96, 160), (128, 240)
_OBJECT_SIDE = (0.28, 0.6)  # of the scene's shorter side
_MOST_OBJECTS = 3
_MIN_CONTRAST = 45.0  # mean difference of a colour from what it covers; less would be hard to see for people too
_TRIES = 30
_GREY_SHARE = 0.1
_JPEG_QUALITY = 90
_OVERSAMPLING = 4  # cut-outs get smooth edges


@attrs.frozen(kw_only=True)
class SceneOptions:
    """How many scenes to make.

    Attributes:
        train_scenes: Scenes to train on.
        eval_scenes: Held-out scenes, from another photograph.
        seed: Decides what lies where.
    """

    train_scenes: int = option(2000, "scenes to train on", minimum=1)
    eval_scenes: int = option(120, "held-out scenes, from another photograph", minimum=1)
    seed: int = option(7, "decides what lies where", minimum=0)


SCENE_EXAMPLES = StepInterface(
    component="tpu2gpu_pipelines.examples.SceneExamples",
    summary="Write scenes of cut-out photographs, JPEG bytes and boxes, as examples with the splits train and eval.",
    options=SceneOptions,
    outputs={"examples": EXAMPLES},
    parameters={"data_uri": TextParameter("folder of examples in the same form to take instead", "")},
)


@attrs.frozen
class Scene:
    """One image and what lies on it.

    Attributes:
        jpeg: The image, a JPEG file; a tenth of them are greyscale.
        height: In pixels.
        width: In pixels.
        boxes: Corners in pixels, `[objects, 4]`: ymin, xmin, ymax, xmax.
        classes: `[objects]`, from 1.
    """

    jpeg: bytes
    height: int
    width: int
    boxes: np.ndarray
    classes: np.ndarray


def write_scenes(folder: str | os.PathLike[str], options: SceneOptions | None = None) -> dict[str, int]:
    """Write scenes as tf.Example records, in the folders that TFX expects.

    The features are those of the TensorFlow Object Detection API: `image/encoded`, `image/height`, `image/width`,
    `image/object/bbox/ymin` and its like (fractions of the image), `image/object/class/label` (from 1). The same
    options give the same scenes.

    Args:
        folder: Receives `Split-train/` and `Split-eval/` with one compressed file each.
        options: How many.

    Returns:
        The number of scenes of each split.

    Source: scikit-learn's `china.jpg` and matplotlib's `grace_hopper.jpg` (training), scikit-learn's `flower.jpg`
    (held out); all three come with the packages, which tell their origin and licence.
    """
    import tensorflow as tf

    options = options or SceneOptions()
    counts = {"train": options.train_scenes, "eval": options.eval_scenes}
    for number, (split, photographs) in enumerate(load_photographs().items()):
        path = Path(folder) / f"Split-{split}" / SCENE_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path), "GZIP") as file:
            scenes = make_scenes(photographs, counts[split], options.seed * len(counts) + number)
            for index, scene in enumerate(scenes):
                file.write(_to_example(scene, f"{split}-{index}").SerializeToString(deterministic=True))
    return counts


def load_photographs() -> dict[str, list[Image]]:
    """Load the photographs of each split from the packages that carry them.

    Raises:
        EnvironmentLacksError: A package is not installed, or came without its photographs.
    """
    return {split: [_photograph(*each) for each in those] for split, those in _PHOTOGRAPHS.items()}


def _photograph(package: str, name: str) -> Image:
    with foreign_errors(
        EnvironmentLacksError,
        f"{name}: scenes are made of this photograph, which comes with {package} and cannot be read",
        hint=f"install {package} and Pillow from the package index, or give examples of your own: data_uri",
    ):
        from PIL import Image

        return Image.open(_folder_of_photographs(package) / name).convert("RGB")


def _folder_of_photographs(package: str) -> Path:
    if package == "matplotlib":
        import matplotlib

        return Path(matplotlib.get_data_path()) / "sample_data"
    import sklearn.datasets

    return Path(sklearn.datasets.__file__).parent / "images"


def make_scenes(photographs: list[Image], count: int, seed: int) -> Iterator[Scene]:
    """Make scenes of pieces of photographs.

    Args:
        photographs: Where background and objects are cut from.
        count: How many.
        seed: Decides everything.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    for _ in range(count):
        yield _make_scene(photographs, random)


def _make_scene(photographs: list[Image], random: np.random.Generator) -> Scene:
    import numpy as np
    from PIL import Image

    height, width = int(random.integers(*_SHORT_SIDE)), int(random.integers(*_LONG_SIDE))
    if random.random() < 0.5:
        height, width = width, height
    canvas = np.asarray(_cut(photographs, random, height, width), np.float32)
    boxes: list[tuple[int, int, int, int]] = []
    classes: list[int] = []
    wanted = int(random.integers(1, _MOST_OBJECTS + 1))
    for _ in range(_TRIES):
        class_id = int(random.integers(len(CLASS_NAMES)))
        side = int(min(height, width) * random.uniform(*_OBJECT_SIDE))
        mask = _mask(class_id, side, random)
        top, left = int(random.integers(height - mask.shape[0] + 1)), int(random.integers(width - mask.shape[1] + 1))
        box = (top, left, top + mask.shape[0], left + mask.shape[1])
        if any(_touch(box, other) for other in boxes):
            continue
        under = canvas[top : box[2], left : box[3]]
        piece = _recolour(np.asarray(_cut(photographs, random, *mask.shape), np.float32), random)
        covered = mask > 0.5
        if np.abs(piece[covered].mean(0) - under[covered].mean(0)).mean() < _MIN_CONTRAST:
            continue
        under += (piece - under) * mask[..., None]
        boxes.append(box)
        classes.append(class_id + 1)
        if len(boxes) == wanted:
            break
    picture = Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8))
    if random.random() < _GREY_SHARE:
        picture = picture.convert("L")
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_JPEG_QUALITY)
    return Scene(file.getvalue(), height, width, np.array(boxes, np.float32).reshape(-1, 4), np.array(classes))


def _cut(photographs: list[Image], random: np.random.Generator, height: int, width: int) -> Image:
    """Cut a random piece of a random photograph, mirrored or not, and bring it to a size."""
    from PIL import Image

    photograph = photographs[int(random.integers(len(photographs)))]
    largest = min(photograph.height / height, photograph.width / width)
    scale = largest * random.uniform(0.35, 1.0)
    cut_width, cut_height = width * scale, height * scale
    left, top = random.uniform(0, photograph.width - cut_width), random.uniform(0, photograph.height - cut_height)
    piece = photograph.resize(
        (width, height), Image.Resampling.BILINEAR, box=(left, top, left + cut_width, top + cut_height)
    )
    return piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else piece


def _recolour(piece: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Change a piece's brightness, and sometimes swap its colours: real texture, seen in another light."""
    import numpy as np

    piece = piece[..., random.permutation(3)] if random.random() < 0.5 else piece
    return np.clip(piece * random.uniform(0.5, 1.6) + random.uniform(-60, 60), 0, 255)


def _mask(class_id: int, side: int, random: np.random.Generator) -> np.ndarray:
    """Draw a shape's coverage from 0 to 1, `[height, width]`, trimmed to where it is not 0."""
    import numpy as np
    from PIL import Image, ImageDraw

    size = side * _OVERSAMPLING
    picture = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(picture)
    if CLASS_NAMES[class_id] == "disc":
        squeezed = size * random.uniform(0.0, 0.1)
        draw.ellipse((0, squeezed, size - 1, size - 1 - squeezed), fill=255)
    else:
        corners = {"square": 4, "triangle": 3, "star": 10}[CLASS_NAMES[class_id]]
        turned = random.uniform(-0.2, 0.2) + (np.pi / 4 if corners == 4 else 0)
        angles = turned + 2 * np.pi * np.arange(corners) / corners - np.pi / 2
        radii = np.where(np.arange(corners) % 2, 0.45, 1.0) if corners == 10 else np.ones(corners)
        points = size / 2 * (1 + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1))
        draw.polygon([(float(x), float(y)) for x, y in points], fill=255)
    coverage = np.asarray(picture.resize((side, side), Image.Resampling.BOX), np.float32) / 255
    rows, columns = np.flatnonzero(coverage.max(1) > 0.5), np.flatnonzero(coverage.max(0) > 0.5)
    return coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _touch(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _to_example(scene: Scene, source_id: str) -> Any:
    import numpy as np
    import tensorflow as tf

    sides = (scene.boxes / [scene.height, scene.width, scene.height, scene.width]).astype(np.float32)
    names = [CLASS_NAMES[class_id - 1].encode() for class_id in scene.classes]
    features: dict[str, list[bytes] | list[int] | list[float]] = {
        "image/encoded": [scene.jpeg],
        "image/format": [b"jpeg"],
        "image/source_id": [source_id.encode()],
        "image/height": [scene.height],
        "image/width": [scene.width],
        "image/object/class/text": names,
        "image/object/class/label": [int(class_id) for class_id in scene.classes],
        **{f"image/object/bbox/{side}": sides[:, axis].tolist() for axis, side in enumerate(_SIDES)},
    }
    return tf.train.Example(features=tf.train.Features(feature={name: _feature(it) for name, it in features.items()}))


_SIDES = ("ymin", "xmin", "ymax", "xmax")


def _feature(values: list[Any]) -> Any:
    import tensorflow as tf

    if values and isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if values and isinstance(values[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))
