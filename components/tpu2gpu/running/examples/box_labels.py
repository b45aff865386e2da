"""The ground-truth boxes of examples, as labels of a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt

from tpu2gpu.errors import ExamplesError
from tpu2gpu.options import flag
from tpu2gpu.running.examples.rows import amount, is_bytes

Array = npt.NDArray[Any]

# What TensorFlow's Object Detection API and the TPU detection models write, in the order of their boxes.
DEFAULT_BOXES = tuple(f"image/object/bbox/{side}" for side in ("ymin", "xmin", "ymax", "xmax"))
DEFAULT_CLASSES = "image/object/class/label"
IMAGE_SIZE = ("image/height", "image/width")


@attrs.frozen
class BoxLabels:
    """The ground-truth boxes of one example.

    Attributes:
        boxes: float64 `[boxes, 4]`, in the form of the model's boxes.
        classes: int64 `[boxes]`.
    """

    boxes: Array = attrs.field(eq=False)
    classes: Array = attrs.field(eq=False)


@attrs.frozen
class BoxFeatures:
    """The features of an example that hold its ground-truth boxes.

    Attributes:
        boxes: One feature with four numbers for each box, or four with one number each.
        classes: The feature with the class of each box.
        required: Whether an example without them is an error; otherwise it has no labels.
        units: `same` as the model's boxes, or `fractions` of the image's size where those are in its pixels.
    """

    boxes: Sequence[str] = DEFAULT_BOXES
    classes: str = DEFAULT_CLASSES
    required: bool = False
    units: str = "same"

    def read(self, values: Mapping[str, Any]) -> BoxLabels | None:
        """Read the ground-truth boxes of an example; none at all where its lists are empty.

        Args:
            values: An array for each of its features, None where one has nothing.

        Raises:
            ExamplesError: The features are missing, or do not fit each other.
        """
        names = (*self.boxes, self.classes, *(IMAGE_SIZE if self.units == "fractions" else ()))
        missing = [name for name in names if name not in values]
        if missing and not self.required:
            return None  # ImageNet's examples, for one, have boxes and no class for each
        if missing:
            raise ExamplesError(f"boxes: no feature {', '.join(missing)}")
        given = {name: values[name] for name in names}
        wrong = [f"{name} ({amount(it)})" for name, it in given.items() if it is not None and is_bytes(it)]
        if wrong:
            raise ExamplesError(f"boxes: {', '.join(wrong)}: numbers are needed")
        numbers = {name: np.zeros(0) if it is None else it for name, it in given.items()}
        sides = [np.asarray(numbers[name], np.float64).ravel() for name in self.boxes]
        classes = np.asarray(numbers[self.classes], np.int64).ravel()
        if len({len(side) for side in sides}) != 1 or sum(map(len, sides)) != 4 * len(classes):
            found = ", ".join(f"{len(side)} in {name}" for name, side in zip(self.boxes, sides, strict=True))
            raise ExamplesError(f"boxes: {found} and {len(classes)} in {self.classes}, four floats a class are needed")
        boxes = np.stack(sides, axis=1) if len(sides) == 4 else sides[0].reshape(-1, 4)
        return BoxLabels(boxes * self._scale(numbers) if self.units == "fractions" else boxes, classes)

    def _scale(self, numbers: Mapping[str, Array]) -> Array:
        """Return what makes pixels of fractions; boxes begin with the vertical side unless its name ends in `xmin`."""
        found = [np.asarray(numbers[name], np.float64).ravel() for name in IMAGE_SIZE]
        if any(one.size != 1 or not one[0] > 0 for one in found):
            sizes = " and ".join(f"{amount(numbers[name])} in {name}" for name in IMAGE_SIZE)
            raise ExamplesError(f"boxes: {sizes}, one number above 0 is needed to make pixels of fractions")
        size = np.concatenate(found)
        return np.tile(size[::-1] if self.boxes[0].endswith("xmin") else size, 2)


def box_features(boxes: str | None, classes: str | None, units: str = "same") -> BoxFeatures:
    """Return the features that options name: one for boxes or four with commas between, and one for their classes.

    Args:
        boxes: The names for boxes; those of the Object Detection API when not given.
        classes: The name for classes; likewise.
        units: `same`, or `fractions`.

    Raises:
        ExamplesError: There are neither one nor four.
    """
    names = DEFAULT_BOXES if boxes is None else tuple(boxes.split(","))
    if len(names) not in (1, 4) or not all(names):
        raise ExamplesError(f"{flag('label_boxes')} {boxes}: one feature is needed, or four with commas between")
    required = boxes is not None or classes is not None or units != "same"
    return BoxFeatures(names, classes or DEFAULT_CLASSES, required, units)
