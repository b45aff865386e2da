"""How examples are read into a model's inputs, and the options that say so in every step that takes examples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.options import KnownNames, as_mapping, did_you_mean, option

RESIZES = ("stretch", "crop", "pad")
SCALES = ("none", "unit", "signed", "imagenet")
IMAGE, TENSOR = "image", "tensor"
_SIZE = re.compile(r"([1-9]\d{0,4}(x[1-9]\d{0,4})?)?", re.ASCII)
_RAW = ("uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64")


@attrs.frozen
class Reading:
    """How examples become feeds.

    Attributes:
        features: The feature that feeds an input, where the two have different names; `pixel*` puts several together.
        decode: What an input's strings hold: `image`, `tensor`, or the type of raw numbers, such as `uint8`.
        resize: How images are brought to an input's size: `stretch`, `crop` or `pad`, and perhaps `:HEIGHTxWIDTH`.
        scale: What becomes of pixels from 0 to 255: `none`, `unit`, `signed` or `imagenet`.
        labels: A table of image files and their labels.
    """

    features: Mapping[str, str] = attrs.field(factory=dict)
    decode: Mapping[str, str] = attrs.field(factory=dict)
    resize: str = ""
    scale: str = "none"
    labels: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Reading:
        """Read `to_json`'s form back."""
        return cls(**(data or {}))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data, to cross a process boundary."""
        return attrs.asdict(self)

    @property
    def method(self) -> str:
        """How images are resized; empty where they must have the right size."""
        return self.resize.partition(":")[0]

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width to resize to, where the option names them."""
        height, _, width = self.resize.partition(":")[2].partition("x")
        return (int(height), int(width or height)) if height else None


@attrs.frozen(kw_only=True, slots=False)
class ExampleOptions(KnownNames):
    """The options of a step that reads examples.

    Attributes:
        feature: The feature that feeds an input, where their names differ.
        decode: Inputs whose strings are images, tensors or raw numbers.
        resize: How images are brought to the size of the input.
        scale: What becomes of pixels.
        labels: A table with the label of each image file.
    """

    feature: tuple[str, ...] = option(
        (), "the feature that feeds an input, where their names differ; pixel* joins several", metavar="INPUT=FEATURE"
    )
    decode: tuple[str, ...] = option(
        (),
        "an input whose strings are image files; or, with =tensor or =TYPE (uint8, float32), serialized tensors or raw "
        "numbers",
        metavar="INPUT[=KIND]",
    )
    resize: str = option(
        "", "bring images to the input's size, or to this one: stretch, crop or pad", metavar="HOW[:HEIGHTxWIDTH]"
    )
    scale: str = option(
        "none",
        "what becomes of pixels from 0 to 255: unit, 0 to 1; signed, -1 to 1; imagenet, less mean and by deviation",
        choices=SCALES,
    )
    labels: str = option(
        "", "a CSV file of image files and their labels (default: labels.csv beside them)", metavar="FILE"
    )

    def __attrs_post_init__(self) -> None:
        """Check the forms.

        Raises:
            UsageError: A value has another form.
        """
        self.reading()

    def reading(self) -> Reading:
        """Return what the options say.

        Raises:
            UsageError: A value has another form.
        """
        features = as_mapping("feature", self.feature, "INPUT=FEATURE")
        decode = {name: kind or IMAGE for name, _, kind in (it.partition("=") for it in self.decode)}
        for name, kind in decode.items():
            if kind not in (IMAGE, TENSOR, *_RAW):
                known = (IMAGE, TENSOR, *_RAW)
                raise UsageError(
                    f"--decode {name}={kind}: not one of {', '.join(known)}", hint=did_you_mean(kind, known)
                )
        how, _, size = self.resize.partition(":")
        if self.resize and (how not in RESIZES or not _SIZE.fullmatch(size)):
            raise UsageError(
                f"--resize {self.resize}: must be {', '.join(RESIZES)}, and perhaps :HEIGHTxWIDTH",
                hint=did_you_mean(how, RESIZES) or "for example crop, or crop:224x224",
            )
        return Reading(features, decode, self.resize, self.scale, self.labels)


EXAMPLE_FIELDS = tuple(field.name for field in attrs.fields(ExampleOptions))
"""The names of those options."""
