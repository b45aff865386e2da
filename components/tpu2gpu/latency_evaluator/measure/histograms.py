"""Latencies as HDR histograms: three significant digits in a few kilobytes, and those of several runs can be added up.

Each is HdrHistogram's own compressed text, which its libraries in every language read.

Source: https://github.com/HdrHistogram/HdrHistogram, version 2 encoding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tpu2gpu.running.arrays import Array

RAW_REQUESTS = 1_000_000  # of one model in one scenario; of longer runs the histogram is all that is kept
_LARGEST_NS = 3_600_000_000_000
_DIGITS = 3


def encode(latencies_ns: Array) -> str:
    """Return the histogram of some latencies in nanoseconds."""
    histogram = _empty()
    values, counts = np.unique(np.clip(latencies_ns, 1, _LARGEST_NS), return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        histogram.record_value(value, count)
    return _text(histogram)


def merge(texts: Iterable[str]) -> str:
    """Add up several histograms."""
    histogram = _empty()
    for text in texts:
        histogram.add(_decoded(text))
    return _text(histogram)


def percentile_ns(text: str, percentile: float) -> int:
    """Return a percentile of a histogram in nanoseconds, right to three digits."""
    return int(_decoded(text).get_value_at_percentile(percentile))


def _empty() -> Any:
    from hdrh.histogram import HdrHistogram

    return HdrHistogram(1, _LARGEST_NS, _DIGITS)


def _decoded(text: str) -> Any:
    from hdrh.histogram import HdrHistogram

    return HdrHistogram.decode(text.encode())


def _text(histogram: Any) -> str:
    encoded = histogram.encode()
    return encoded.decode() if isinstance(encoded, bytes) else str(encoded)
