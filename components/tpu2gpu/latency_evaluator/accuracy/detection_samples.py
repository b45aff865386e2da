"""A few examples with what each model detects on them, to look at."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import attrs
import numpy as np

from tpu2gpu.latency_evaluator.options import OutputOptions
from tpu2gpu.running.arrays import Array
from tpu2gpu.running.comparison.detections import Detections, find_detections, read_detections
from tpu2gpu.running.examples.box_labels import BoxLabels

SAMPLES = 4
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_MOST_PIXELS = 50_000_000
_FRACTIONS = 2.0  # boxes in pixels reach further


@attrs.frozen
class DetectionSample:
    """An example's image, and what was found on it.

    Attributes:
        example: Its number.
        image: The image file, JPEG or PNG.
        height: In pixels.
        width: In pixels.
        found: The detections of each model by its label, the boxes in pixels as `[ymin, xmin, ymax, xmax]`.
        ground_truth: The ground-truth boxes, likewise; None without labels.
    """

    example: int
    image: bytes
    height: int
    width: int
    found: dict[str, Detections] = attrs.field(eq=False)
    ground_truth: BoxLabels | None = attrs.field(default=None, eq=False)


class DetectionSampler:
    """Keeps what the models detect on the first examples, and on the one where a candidate is worst.

    Args:
        feeds: All examples; where one input holds image files, detections are drawn on them.
        ground_truth: Their ground-truth boxes, where they have some.
        options: How outputs are to be read.
    """

    def __init__(
        self, feeds: Mapping[str, Array], ground_truth: Sequence[BoxLabels] | None, options: OutputOptions
    ) -> None:
        self._images = next((array for array in feeds.values() if _holds_images(array)), None)
        self._ground_truth, self._options = ground_truth, options
        self._found: dict[str, list[Detections]] = {}
        self._worst: list[int] = []

    def note(self, label: str, outputs: Mapping[str, Array], worst_example: int | None = None) -> None:
        """Take note of a model's outputs to all examples, and of the one that is worst."""
        if self._images is None:
            return
        names = find_detections(outputs, self._options.named_detections())
        if names is not None:
            self._found[label] = read_detections(outputs, names, self._options.box_format)
            self._worst += [] if worst_example is None else [worst_example]

    def samples(self) -> tuple[DetectionSample, ...]:
        """Return the examples; none where no input holds images, or no output detections."""
        if self._images is None or not self._found:
            return ()
        numbers = dict.fromkeys([*self._worst, *range(len(self._images))])
        every = [box for found in self._found.values() for each in found for box in each.boxes]
        in_fractions = not every or float(np.max(every)) <= _FRACTIONS
        made = (self._sample(number, in_fractions) for number in list(numbers)[:SAMPLES])
        return tuple(sample for sample in made if sample is not None)

    def _sample(self, number: int, in_fractions: bool) -> DetectionSample | None:
        assert self._images is not None
        image = bytes(self._images[number])
        size = _size_of(image)
        if size is None:
            return None
        height, width = size
        x_first = bool(self._options.label_boxes) and str(self._options.label_boxes).split(",")[0].endswith("xmin")

        def pixels(boxes: Array) -> Array:
            ordered = boxes[:, [1, 0, 3, 2]] if x_first else boxes
            return ordered * [height, width, height, width] if in_fractions else ordered

        counted = {
            label: (each[number], each[number].scores >= self._options.box_score) for label, each in self._found.items()
        }
        truth = self._ground_truth[number] if self._ground_truth is not None else None
        return DetectionSample(
            number,
            image,
            height,
            width,
            {
                label: Detections(pixels(it.boxes[kept]), it.scores[kept], it.classes[kept])
                for label, (it, kept) in counted.items()
            },
            None if truth is None else BoxLabels(pixels(truth.boxes), truth.classes),
        )


def _holds_images(array: Array) -> bool:
    return array.dtype.kind == "O" and array.ndim == 1 and len(array) > 0 and _is_image(array[0])


def _is_image(value: object) -> bool:
    return isinstance(value, bytes) and value.startswith((_JPEG, _PNG))


def _size_of(image: bytes) -> tuple[int, int] | None:
    """Return an image's height and width; None where its head is damaged, or tells of too many pixels."""
    from PIL import Image

    if not _is_image(image):
        return None
    try:
        with Image.open(io.BytesIO(image), formats=["JPEG", "PNG"]) as opened:
            width, height = opened.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return (height, width) if 0 < height * width <= _MOST_PIXELS else None
