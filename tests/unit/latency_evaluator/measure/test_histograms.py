"""Histograms keep three digits of every percentile, and add up."""

from __future__ import annotations

import numpy as np

from tpu2gpu.latency_evaluator.measure.histograms import encode, merge, percentile_ns


def test_percentiles_are_right_to_three_digits_in_little_space():
    latencies_ns = np.random.default_rng(0).lognormal(14, 1, 30_000).astype(np.int64)
    text = encode(latencies_ns)
    for percentile in (50, 90, 99, 99.9):
        rank = round(len(latencies_ns) * percentile / 100)
        below, above = np.sort(latencies_ns)[[rank - 2, rank]]
        assert below * 0.999 <= percentile_ns(text, percentile) <= above * 1.001
    assert len(text) < 30_000


def test_runs_of_several_machines_add_up_to_one():
    runs = [np.random.default_rng(seed).integers(10**5, 10**8, 2000) for seed in range(3)]
    merged = merge(encode(run) for run in runs)
    assert merged == encode(np.concatenate(runs))
