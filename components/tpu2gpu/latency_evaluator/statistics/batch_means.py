"""Percentiles of requests that depend on each other, as in a queue, where one slow request delays those behind it.

The intervals of `statistics` take requests as independent; in a queue slow requests come in clusters, and the same
number of them says less. How much less is measured: the share of requests below the percentile varies between batches
of consecutive requests, and this variance over the one that independence would give is the number of requests that say
as much as one. The interval is then that of so many fewer independent requests.

Source: P. Heidelberger, P. A. W. Lewis, Quantile Estimation in Dependent Sequences (Operations Research 32, 1984);
S. Asmussen, P. W. Glynn, Stochastic Simulation (2007), section IV.5, for batch means.
"""

from __future__ import annotations

import numpy as np

from tpu2gpu.latency_evaluator.statistics.intervals import CONFIDENCE, Estimate, interval_ranks, percentile_of
from tpu2gpu.running.arrays import Array

_BATCHES = (30, 15)  # of consecutive requests, each long enough to hold whole clusters
_LESSER_PERCENTILES = (50.0, 75.0, 90.0)


def variance_inflation(windows: Array, percentile: float) -> float:
    """Return the variance inflation of a percentile: how many requests say as much as one independent one; at least 1.

    In a tail there are too few clusters to measure how large they are, and whoever prints only what looks certain then
    picks the samples that look so by chance. So lesser percentiles count too, and batches of two lengths: the largest
    number is taken.

    Args:
        windows: Latencies `[windows, requests]`; requests of a window are consecutive.
        percentile: Which one.
    """
    ordered = np.sort(windows, axis=None)
    shares = {percentile, *(lesser for lesser in _LESSER_PERCENTILES if lesser < percentile)}
    found = (
        _variance_factor(windows <= percentile_of(ordered, share), share / 100, batches)
        for share in shares
        for batches in _BATCHES
    )
    return max(1.0, *found)


def _variance_factor(below: Array, share: float, batches: int) -> float:
    """Return the variance of batches' shares over that of independent requests; `below` is `[windows, requests]`."""
    from scipy.stats import t

    in_each = max(batches // len(below), 2)
    size = below.shape[1] // in_each
    if size < 2:
        return 1.0
    means = below[:, : size * in_each].reshape(len(below) * in_each, size).mean(axis=1)
    # The variance is an estimate itself: Student's quantile in place of the normal one makes up for it.
    wider = float(t.ppf(0.975, len(means) - 1) / t.ppf(0.975, np.inf))
    return float(np.var(means, ddof=1)) * size / (share * (1 - share)) * wider**2


def estimate_dependent(windows: Array, percentile: float, confidence: float = CONFIDENCE) -> Estimate | None:
    """Estimate a percentile with its interval, or return None where the sample is too small to bound it on both sides.

    Args:
        windows: Latencies `[windows, requests]`; requests of a window are consecutive.
        percentile: Which one.
        confidence: Of the interval, with equal tails.
    """
    inflation = variance_inflation(windows, percentile)
    lower, upper = interval_ranks(int(windows.size / inflation), percentile, confidence)
    if lower is None or upper is None:
        return None
    ordered = np.sort(windows, axis=None)
    low, high = (min(max(round(rank * inflation), 1), ordered.size) for rank in (lower, upper))
    return Estimate(percentile_of(ordered, percentile), float(ordered[low - 1]), float(ordered[high - 1]), confidence)
