"""The statistics of the LatencyEvaluator, against published tables, exact arithmetic and simulation."""

from __future__ import annotations

from fractions import Fraction
from math import comb
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter

from tpu2gpu.latency_evaluator.statistics.intervals import (
    clopper_pearson_lower,
    estimate_percentile,
    interval_ranks,
    judge_minimum,
    judge_percentile,
    needed_requests,
    percentile_of,
    relative_iqr,
    speedup,
    throughput,
)

RECORDED = Path(__file__).parents[3] / "models" / "recorded" / "copies.npz"


def exact_cdf(successes: int, trials: int, rate: Fraction) -> Fraction:
    """P(X <= successes), without rounding."""
    return sum(
        (comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(successes + 1)), start=Fraction(0)
    )


# MLPerf LoadGen's early stopping asks for the same numbers (662 for its multi-stream scenario).
@pytest.mark.parametrize(
    ("confidence", "percentile", "exceedances", "requests"),
    [
        (confidence, percentile, exceedances, requests)
        for confidence, table in {
            0.95: {
                0: (29, 59, 299, 2995),
                1: (46, 93, 473, 4742),
                5: (103, 208, 1049, 10511),
                10: (167, 336, 1693, 16959),
            },
            0.99: {
                0: (44, 90, 459, 4603),
                1: (64, 130, 662, 6636),
                5: (127, 259, 1307, 13105),
                10: (197, 398, 2010, 20140),
            },
        }.items()
        for exceedances, row in table.items()
        for percentile, requests in zip((90, 95, 99, 99.9), row, strict=True)
    ],
)
def test_requests_needed_to_claim_a_limit(confidence, percentile, exceedances, requests):
    assert needed_requests(exceedances, percentile, confidence) == requests


@pytest.mark.parametrize("exceedances", [0, 1, 2, 3, 7])
def test_requests_needed_against_exact_arithmetic(exceedances):
    rate, risk = Fraction(1, 100), Fraction(5, 100)
    needed = needed_requests(exceedances, 99)
    assert exact_cdf(exceedances, needed, rate) <= risk < exact_cdf(exceedances, needed - 1, rate)


@pytest.mark.parametrize(
    ("requests", "ranks"),
    [(1000, (983, 997)), (2000, (1971, 1989)), (5000, (4936, 4964)), (10000, (9880, 9920))],
)
def test_ranks_that_bound_p99(requests, ranks):
    assert interval_ranks(requests, 99) == ranks


def test_p99_of_few_requests_has_no_upper_bound():
    assert interval_ranks(300, 99)[1] is None
    assert interval_ranks(367, 99)[1] is None
    assert interval_ranks(368, 99)[1] == 368
    assert estimate_percentile(np.arange(300.0), 99) is None
    assert estimate_percentile(np.arange(368.0), 99).upper == 367


@pytest.mark.parametrize("percentile", [5, 50, 90, 95])
@pytest.mark.parametrize("requests", [1, 2, 5, 6, 10, 29, 36, 60])
def test_ranks_against_exact_arithmetic(percentile, requests):
    rate, tail = Fraction(percentile, 100), Fraction(25, 1000)
    lower, upper = interval_ranks(requests, percentile)
    lowers = [rank for rank in range(1, requests + 1) if exact_cdf(rank - 1, requests, rate) <= tail]
    uppers = [rank for rank in range(1, requests + 1) if exact_cdf(rank - 1, requests, rate) >= 1 - tail]
    assert lower == max(lowers, default=None)
    assert upper == min(uppers, default=None)


def test_percentiles_are_latencies_that_occurred():
    ordered = np.asarray([1.0, 2.0, 3.0, 4.0])
    assert [percentile_of(ordered, p) for p in (0.1, 25, 25.1, 50, 75, 99, 100)] == [1, 1, 2, 2, 3, 4, 4]
    hundred = np.arange(1.0, 101.0)
    assert [percentile_of(hundred, p) for p in (50, 90, 95, 99)] == [50, 90, 95, 99]


def test_an_estimate_lies_inside_its_interval():
    latencies = np.random.default_rng(0).lognormal(size=1000)
    for percentile in (50, 90, 95, 99):
        estimate = estimate_percentile(latencies, percentile)
        assert estimate.lower <= estimate.value <= estimate.upper


@pytest.mark.parametrize(("percentile", "requests"), [(50, 40), (90, 200), (99, 1000)])
def test_intervals_cover_the_truth_at_the_promised_rate(percentile, requests):
    trials = 4000
    drawn = np.sort(np.random.default_rng(1).exponential(size=(trials, requests)), axis=1)
    truth = -np.log1p(-percentile / 100)
    lower, upper = interval_ranks(requests, percentile)
    covered = np.mean((drawn[:, lower - 1] <= truth) & (truth <= drawn[:, upper - 1]))
    assert covered > 0.95 - 3 * np.sqrt(0.95 * 0.05 / trials)
    assert covered < 0.99  # nor wider than it need be


def test_a_limit_is_kept_broken_or_undecided():
    def with_exceedances(count: int, requests: int) -> np.ndarray:
        return np.where(np.arange(requests) < count, 2.0, 0.5)

    assert judge_percentile(with_exceedances(0, 299), 99, 1.0).verdict == "pass"
    assert judge_percentile(with_exceedances(0, 298), 99, 1.0).verdict == "undecided"
    assert judge_percentile(with_exceedances(1, 473), 99, 1.0).verdict == "pass"
    assert judge_percentile(with_exceedances(1, 472), 99, 1.0).verdict == "undecided"
    assert judge_percentile(with_exceedances(10, 1000), 99, 1.0).verdict == "undecided"
    assert judge_percentile(with_exceedances(30, 1000), 99, 1.0).verdict == "fail"
    undecided = judge_percentile(with_exceedances(5, 1000), 99, 1.0)
    assert (undecided.exceedances, undecided.requests, undecided.needed_requests) == (5, 1000, 1049)


def test_a_latency_at_the_limit_keeps_it():
    assert judge_percentile(np.full(299, 1.0), 99, 1.0).exceedances == 0


def test_a_broken_limit_passes_no_more_often_than_promised():
    # The true share above the limit is 1 %: passing is then an error, and at most 5 % of runs may make it.
    rng = np.random.default_rng(2)
    verdicts = [judge_percentile((rng.random(1000) < 0.0100001).astype(float), 99, 0.5).verdict for _ in range(1000)]
    assert verdicts.count("pass") <= 50 + 3 * np.sqrt(1000 * 0.05 * 0.95)
    assert verdicts.count("fail") <= 50 + 3 * np.sqrt(1000 * 0.05 * 0.95)


def drifting(rng: np.random.Generator, rounds: int = 50, block: int = 20, times: float = 1.0):
    """Latencies of two models on a machine whose speed drifts, and jumps from block to block; the second's `times`."""
    drift = np.exp(0.2 * np.sin(np.arange(rounds) / 8))[:, None]
    jumps = rng.lognormal(0, 0.05, size=(2, rounds, 1))
    noise = rng.lognormal(0, 0.1, size=(2, rounds, block))
    return drift * jumps[0] * noise[0], times * drift * jumps[1] * noise[1]


def test_two_copies_of_a_model_are_rarely_called_faster():
    rng = np.random.default_rng(3)
    faster = sum(speedup(*drifting(rng), 50, confidence=0.9).lower > 1 for _ in range(100))
    assert faster <= 8  # one-sided, 5 % promised


def test_a_slower_model_is_found_out():
    rng = np.random.default_rng(4)
    ratios = [speedup(*drifting(rng, times=1.3), 50) for _ in range(20)]
    assert all(judge_minimum(ratio, 1.0) == "fail" for ratio in ratios)
    assert sum(ratio.lower <= 1 / 1.3 <= ratio.upper for ratio in ratios) >= 17


def test_the_interval_of_a_ratio_depends_on_the_seed_alone():
    pair = drifting(np.random.default_rng(5))
    assert speedup(*pair, 50, seed=1) == speedup(*pair, 50, seed=1)
    assert speedup(*pair, 50, seed=1) != speedup(*pair, 50, seed=2)


def test_a_ratio_needs_rounds_and_a_bounded_percentile():
    rng = np.random.default_rng(6)
    assert speedup(*drifting(rng, rounds=4, block=100), 50) is None
    assert speedup(*drifting(rng, rounds=15), 99) is None
    assert speedup(*drifting(rng, rounds=50), 99) is not None


def test_a_ratio_passes_fails_or_stays_undecided():
    pair = drifting(np.random.default_rng(7), times=0.5)
    ratio = speedup(*pair, 50)
    assert ratio.lower < ratio.value < ratio.upper
    assert judge_minimum(ratio, 1.5) == "pass"
    assert judge_minimum(ratio, ratio.value) == "undecided"
    assert judge_minimum(ratio, 3.0) == "fail"


def recorded_copies() -> tuple[np.ndarray, np.ndarray]:
    """Latencies of two copies of one model in microseconds, `[trials, rounds, block]` each; see record_copies.py."""
    with np.load(RECORDED, allow_pickle=False) as arrays:
        return arrays["first"].astype(float), arrays["second"].astype(float)


def test_two_copies_of_a_model_are_rarely_called_faster_on_recorded_latencies():
    first, second = recorded_copies()
    faster = 0
    for seed in range(100):
        pair = first[seed % len(first)], second[seed % len(second)]
        # Of two copies in one round, it is chance which one is called the reference.
        swapped = np.random.default_rng(seed).integers(2, size=(len(pair[0]), 1), dtype=bool)
        reference, candidate = np.where(swapped, *pair), np.where(swapped, *pair[::-1])
        faster += speedup(reference, candidate, 50, seed=seed, confidence=0.9).lower > 1
    assert faster <= 8  # one-sided, 5 % promised


def test_a_candidate_made_30_percent_slower_is_refused_on_recorded_latencies():
    first, second = recorded_copies()
    verdicts = [judge_minimum(speedup(*pair, 50), 1.0) for pair in zip(first, 1.3 * second, strict=True)]
    assert verdicts.count("fail") >= 0.9 * len(verdicts)
    assert "pass" not in verdicts


def dependent(rng: np.random.Generator, count: int, memory: float) -> np.ndarray:
    """Standard normal numbers, each correlated with the one before."""
    steps = rng.normal(scale=np.sqrt(1 - memory**2), size=count)
    steps[0] = rng.normal()
    return lfilter([1.0], [1.0, -memory], steps)


@pytest.mark.parametrize("memory", [0.0, 0.3])
def test_intervals_of_a_ratio_cover_the_truth_at_the_promised_rate(memory):
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(150):
        drift = 0.2 * dependent(rng, 50, 0.95)
        blocks = [drift + 0.1 * dependent(rng, 50, memory) for _ in range(2)]
        pair = [np.exp(block)[:, None] * rng.lognormal(0, 0.1, size=(50, 10)) for block in blocks]
        ratio = speedup(*pair, 50)
        covered += ratio.lower <= 1 <= ratio.upper
    assert covered >= 150 * 0.95 - 3 * np.sqrt(150 * 0.95 * 0.05)


def test_throughput_is_examples_over_time_with_an_interval_that_covers_the_truth():
    rng = np.random.default_rng(9)
    found = [throughput(rng.gamma(20, 0.01, size=50), 4) for _ in range(1000)]
    covered = sum(one.lower <= 20 <= one.upper for one in found)
    assert 1000 * 0.95 - 3 * np.sqrt(1000 * 0.95 * 0.05) <= covered <= 985
    steady = throughput(np.full(20, 0.5), 8)
    assert (steady.lower, steady.value, steady.upper) == (16, 16, 16)
    assert throughput(np.full(2, 0.5), 8) is None


def test_the_spread_of_blocks():
    assert relative_iqr(np.ones((8, 5))) == 0
    assert relative_iqr(np.repeat([[1.0], [1.0], [2.0], [2.0]], 5, axis=1)) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("found", "examples"), [(1, 1), (28, 28), (29, 29), (359, 360), (7, 50)])
def test_a_share_is_at_least_the_one_under_which_so_many_are_a_chance_of_5_percent(found, examples):
    least = clopper_pearson_lower(found, examples)
    so_many = sum(comb(examples, k) * least**k * (1 - least) ** (examples - k) for k in range(found, examples + 1))
    assert so_many == pytest.approx(0.05)
    assert clopper_pearson_lower(0, examples) == 0
