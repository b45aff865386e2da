"""Made-up strings: words of a vocabulary, digits, image files, serialized tf.Examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tpu2gpu.running.arrays import Array
from tpu2gpu.running.examples.probes.domain import Domain, FeatureForm, RecordForm

_IMAGE_SIZE = (32, 32)
_RAW_BYTES = 64
_MOST_VALUES = 4  # of a feature that has as many as it likes
_UNKNOWN_TEXTS = (b"", b"something else", "größer".encode())


def draw_texts(rng: np.random.Generator, domain: Domain, shape: Sequence[int], *, edges: bool) -> Array:
    """Draw strings that a graph can read.

    Args:
        rng: Where chance comes from.
        domain: What the graph reads.
        shape: How many.
        edges: Draw also the empty string, and strings that no table holds.
    """
    count = int(np.prod(shape))
    texts = np.empty(count, object)
    texts[:] = [_draw(rng, domain, number, edges=edges) for number in range(count)]
    return texts.reshape(tuple(shape))


def _draw(rng: np.random.Generator, domain: Domain, number: int, *, edges: bool) -> bytes:
    if domain.record is not None:
        return make_record(rng, domain.record, edges=edges)
    if domain.text_form == "digits":
        return str(int(rng.integers(-9, 10)) if edges else int(rng.integers(0, 10))).encode()
    if domain.text_form == "bytes":
        return bytes(rng.integers(0, 256, _RAW_BYTES, np.uint8))
    if domain.text_form:
        return image_file(rng, domain.text_form, domain.image_size or _IMAGE_SIZE)
    known = domain.texts or (b"0",)
    if edges:
        known = (*domain.texts, *_UNKNOWN_TEXTS)
        return known[(number + int(rng.integers(len(known)))) % len(known)]
    return known[int(rng.integers(len(known)))]


def image_file(rng: np.random.Generator, op: str, size: tuple[int, int]) -> bytes:
    """Make an image file of a height and a width, in the format that an op decodes."""
    import tensorflow as tf

    pixels = rng.integers(0, 256, (*size, 3), np.uint8)
    encode = tf.io.encode_png if op in ("DecodePng", "DecodeBmp", "DecodeGif") else tf.io.encode_jpeg
    return bytes(encode(pixels).numpy())


def make_record(rng: np.random.Generator, form: RecordForm, *, edges: bool = False) -> bytes:
    """Make a serialized tf.Example with the features that a graph parses.

    Args:
        rng: Where chance comes from.
        form: The features.
        edges: Draw their values from the edges of their domains.
    """
    from tensorflow.core.example import example_pb2

    example = example_pb2.Example()
    for name, feature in sorted(form.features.items()):
        values = getattr(example.features.feature[name], feature.kind).value
        values.extend(_values(rng, feature, edges=edges))
    return bytes(example.SerializeToString(deterministic=True))


def _values(rng: np.random.Generator, feature: FeatureForm, *, edges: bool) -> Any:
    from tpu2gpu.running.examples.probes.drawing import EDGES, TYPICAL, draw_numbers

    count = int(rng.integers(0 if edges else 1, _MOST_VALUES + 1)) if feature.count is None else feature.count
    if feature.kind == "bytes_list":
        return draw_texts(rng, feature.domain, [count], edges=edges).tolist()
    dtype = "float32" if feature.kind == "float_list" else "int64"
    return draw_numbers(rng, feature.domain, dtype, [count], EDGES if edges else TYPICAL).tolist()
