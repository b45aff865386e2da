"""Detections drawn on the images: each model's beside the others'."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence

from tpu2gpu.latency_evaluator.accuracy.detection_samples import DetectionSample
from tpu2gpu.reporting.report import Drawing, Figures
from tpu2gpu.running.arrays import Array

_LONGEST_PIXELS = 480  # of an embedded image
_SERIES = 7  # colours beside the reference's
_LETTERS = (2.9, 4.5)  # width and height of a label's, in hundredths of the image's longer side


def detection_figures(samples: tuple[DetectionSample, ...], box_score: float) -> Figures | None:
    """Draw the samples, a drawing for each model; None without any.

    Args:
        samples: Images, and what was found on them.
        box_score: The smallest score that is drawn.
    """
    if not samples:
        return None
    drawings = [
        Drawing(_draw(sample, label), f"Example {sample.example}: {label}, {_amount(len(found.boxes))}")
        for sample in samples
        for label, found in sample.found.items()
    ]
    note = f"Boxes with a score of {box_score:g} or more, with class and score. White and dashed: the ground truth."
    return Figures("Detections", drawings, note)


def _draw(sample: DetectionSample, label: str) -> str:
    found = sample.found[label]
    unit = max(sample.height, sample.width) / 100
    truth = sample.ground_truth
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {sample.width} {sample.height}">',
        f'<image href="{_data_uri(sample.image)}" width="{sample.width}" height="{sample.height}"/>',
    ]
    dashed = f'stroke="#fff" stroke-width="{0.5 * unit:.2f}" stroke-dasharray="{2 * unit:.2f}"'
    parts += [_rectangle(box, dashed) for box in (truth.boxes if truth is not None else ())]
    colours = [f"var(--series-{1 + int(kind) % _SERIES})" for kind in found.classes]
    for box, colour in zip(found.boxes, colours, strict=True):
        parts.append(_rectangle(box, f'stroke="{colour}" stroke-width="{0.8 * unit:.2f}"'))
    texts = [f"{int(kind)}: {score:.2f}" for kind, score in zip(found.classes, found.scores, strict=True)]
    places = _label_places(found.boxes, texts, sample, unit)
    for (left, bottom), text, colour in zip(places, texts, colours, strict=True):  # above all boxes
        parts.append(
            f'<text x="{left:.1f}" y="{bottom:.1f}" font-size="{_LETTERS[1] * unit:.1f}" font-weight="700" '
            f'fill="{colour}" stroke="#fff" stroke-width="{1.2 * unit:.2f}" paint-order="stroke">{text}</text>'
        )
    return "".join([*parts, "</svg>"])


def _label_places(
    boxes: Array, texts: Sequence[str], sample: DetectionSample, unit: float
) -> Iterator[tuple[float, float]]:
    """Find a place for each label, by its lower left corner: on its box, or below the labels that are there already."""
    height = _LETTERS[1] * unit
    taken: list[tuple[float, float, float]] = []
    for box, text in zip(boxes, texts, strict=True):
        width = _LETTERS[0] * unit * len(text)
        left = max(0.0, min(float(box[1]) + unit, sample.width - width))
        bottom = max(float(box[0]) - unit, height)
        beside = sorted(other for start, end, other in taken if start < left + width and left < end)
        for other in beside:
            if abs(other - bottom) < height:
                bottom = other + height
        taken.append((left, left + width, bottom))
        yield left, bottom


def _rectangle(box: Array, style: str) -> str:
    top, left, bottom, right = (float(side) for side in box)
    width, height = max(right - left, 0.0), max(bottom - top, 0.0)
    return f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" fill="none" {style}/>'


def _data_uri(image: bytes) -> str:
    """Embed an image, anew as a JPEG file of at most 480 pixels a side: nothing else that its file holds goes along."""
    from PIL import Image

    out = io.BytesIO()
    with Image.open(io.BytesIO(image), formats=["JPEG", "PNG"]) as opened:
        opened.thumbnail((_LONGEST_PIXELS, _LONGEST_PIXELS))
        pixels = opened.convert("RGB")
    Image.frombytes("RGB", pixels.size, pixels.tobytes()).save(out, "JPEG", quality=80)  # without comments and EXIF
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def _amount(count: int) -> str:
    return f"{count} box" if count == 1 else f"{count} boxes"
