"""Intervals of latencies and ratios, and the tests of budgets on them.

Percentiles are order statistics, never interpolated and never averaged; their intervals assume no distribution, only
that requests are independent of each other. Interleaved blocks and the noise figure of the measurement keep that
honest; the ratio of two models is bootstrapped over pieces of many rounds, which assumes less.

Source: H. A. David, H. N. Nagaraja, Order Statistics (3rd ed., 2003), section 7.1, for the intervals; MLPerf LoadGen,
`early_stopping.cc`, for the budget rule.
"""

from __future__ import annotations

import math
from typing import Literal

import attrs
import numpy as np

from tpu2gpu.running.arrays import Array

Verdict = Literal["pass", "fail", "undecided"]

CONFIDENCE = 0.95
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
_FEWEST_ROUNDS = 5
_PIECES = 10  # of a measurement, each long enough that what slows one down is over in the next
_BOOTSTRAP_ROUNDS = 500
_BOOTSTRAP_ELEMENTS = 1 << 24  # at most so many latencies are drawn at once


@attrs.frozen
class Estimate:
    """A figure with the interval that holds the truth at the stated confidence."""

    value: float
    lower: float
    upper: float
    confidence: float = CONFIDENCE


@attrs.frozen
class BudgetVerdict:
    """The verdict on a percentile's limit.

    Attributes:
        verdict: `undecided` where the sample allows neither claim.
        exceedances: Requests above the limit.
        requests: Requests in all.
        needed_requests: How many are needed to claim a pass with that many exceedances.
    """

    verdict: Verdict
    exceedances: int
    requests: int
    needed_requests: int


def interval_ranks(requests: int, percentile: float, confidence: float = CONFIDENCE) -> tuple[int | None, int | None]:
    """Return the order statistics (from 1) between which a percentile lies, with equal tails.

    The number of requests below the percentile is binomial; so is the rank of the order statistic next to it. A bound
    is None where even the smallest or the largest latency of the sample cannot be it.
    """
    from scipy.stats import binom

    tail = (1 - confidence) / 2
    below = binom(requests, percentile / 100)
    # The largest rank l with P(B <= l - 1) <= tail, the smallest rank u with P(B <= u - 1) >= 1 - tail.
    lower = int(below.ppf(tail)) + 1
    while lower >= 1 and below.cdf(lower - 1) > tail:
        lower -= 1
    upper = int(below.ppf(1 - tail)) + 1
    return (lower if lower >= 1 else None), (upper if upper <= requests else None)


def percentile_of(ordered: Array, percentile: float) -> float:
    """Return the smallest latency that at least `percentile` % of the sample do not exceed."""
    rank = math.ceil(round(len(ordered) * percentile / 100, 9))
    return float(ordered[max(rank, 1) - 1])


def estimate_percentile(latencies: Array, percentile: float, confidence: float = CONFIDENCE) -> Estimate | None:
    """Estimate a percentile with its interval, or return None where the sample is too small to bound it."""
    lower, upper = interval_ranks(len(latencies), percentile, confidence)
    if lower is None or upper is None:
        return None
    ordered = np.sort(latencies)
    return Estimate(
        percentile_of(ordered, percentile), float(ordered[lower - 1]), float(ordered[upper - 1]), confidence
    )


def needed_requests(exceedances: int, percentile: float, confidence: float = CONFIDENCE) -> int:
    """Return the fewest requests that allow to claim a percentile's limit when so many of them exceeded it.

    That is the smallest n with P(X <= exceedances) <= 1 - confidence for X binomial with n and 1 - percentile / 100.
    """
    from scipy.stats import binom

    rate = 1 - percentile / 100

    def enough(requests: int) -> bool:
        return bool(binom.cdf(exceedances, requests, rate) <= 1 - confidence)

    low, high = exceedances, max(64, 2 * exceedances)
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def clopper_pearson_lower(found: int, examples: int, confidence: float = CONFIDENCE) -> float:
    """Return the lower bound of a share of which `found` of `examples` were seen; one-sided and exact.

    Source: C. J. Clopper, E. S. Pearson, The Use of Confidence or Fiducial Limits Illustrated in the Case of the
    Binomial (1934).
    """
    from scipy.stats import beta

    return float(beta.ppf(1 - confidence, found, examples - found + 1)) if found else 0.0


def judge_percentile(
    latencies: Array, percentile: float, limit: float, confidence: float = CONFIDENCE, *, inflation: float = 1.0
) -> BudgetVerdict:
    """Judge `percentile of the latency <= limit` by how many requests exceeded the limit, exactly.

    Pass: were the limit broken, so few exceedances would come up in less than 1 - `confidence` of such runs.
    Fail: were it kept, so many would. Both tests are one-sided.

    Args:
        latencies: Of all requests.
        percentile: Which one.
        limit: What it may be at most.
        confidence: Of either claim.
        inflation: The variance inflation of dependent requests, by which both counts shrink.
    """
    from scipy.stats import binom

    requests, exceedances = len(latencies), int(np.sum(latencies > limit))
    fewer, above = int(requests / inflation), exceedances / inflation
    rate = 1 - percentile / 100
    verdict: Verdict = "undecided"
    if binom.cdf(math.ceil(above), fewer, rate) <= 1 - confidence:
        verdict = "pass"
    elif binom.sf(math.floor(above) - 1, fewer, rate) <= 1 - confidence:
        verdict = "fail"
    needed = math.ceil(needed_requests(math.ceil(above), percentile, confidence) * inflation)
    return BudgetVerdict(verdict, exceedances, requests, needed)


def speedup(
    reference: Array, candidate: Array, percentile: float, *, seed: int = 0, confidence: float = CONFIDENCE
) -> Estimate | None:
    """Estimate the reference's percentile over the candidate's, with a block bootstrap interval.

    A round is one block of each model, measured next to each other. Pieces of consecutive rounds are drawn with
    replacement, both models' blocks together: so slow drifts of the machine cancel instead of widening or faking the
    ratio, and a disturbance that lasts for several rounds counts once. The spread of the drawn ratios' logarithms is
    that of so few pieces, so Student's quantile takes the place of the normal one.

    Args:
        reference: Latencies `[rounds, block]`.
        candidate: Latencies `[rounds, block]` of the same rounds.
        percentile: Which one to compare.
        seed: For the draws.
        confidence: Of the interval, with equal tails.

    Returns:
        The ratio, or None with fewer than five rounds or where the percentile itself cannot be bounded.

    Source: H. R. Künsch, The Jackknife and the Bootstrap for General Stationary Observations (1989); A. C. Davison,
    D. V. Hinkley, Bootstrap Methods and their Application (1997), section 8.2.3 for blocks that wrap around.
    """
    from scipy.stats import t

    rounds = len(reference)
    bounds = (*interval_ranks(reference.size, percentile), *interval_ranks(candidate.size, percentile))
    if rounds < _FEWEST_ROUNDS or None in bounds:
        return None
    length = max(1, rounds // _PIECES)
    pieces = -(-rounds // length)
    rng = np.random.default_rng(seed)
    at_once = max(1, _BOOTSTRAP_ELEMENTS // max(reference.size, candidate.size))
    logs = []
    for start in range(0, _BOOTSTRAP_ROUNDS, at_once):
        count = min(at_once, _BOOTSTRAP_ROUNDS - start)
        firsts = rng.integers(rounds, size=(count, pieces, 1))
        draws = ((firsts + np.arange(length)) % rounds).reshape(count, -1)[:, :rounds]
        drawn = (_percentiles(latencies[draws], percentile) for latencies in (reference, candidate))
        logs.append(np.log(next(drawn)) - np.log(next(drawn)))
    value = percentile_of(np.sort(reference, axis=None), percentile)
    value /= percentile_of(np.sort(candidate, axis=None), percentile)
    spread = float(np.std(np.concatenate(logs))) * math.sqrt(pieces / (pieces - 1))
    half_width = spread * float(t.ppf(1 - (1 - confidence) / 2, pieces - 1))  # of the ratio's logarithm
    factor = math.exp(half_width)
    return Estimate(value, value / factor, value * factor, confidence)


def regression(ratio: Estimate) -> Estimate:
    """Return by what share the second of two latencies is above the first, of the first one's ratio to the second."""
    return Estimate(1 / ratio.value - 1, 1 / ratio.upper - 1, 1 / ratio.lower - 1, ratio.confidence)


def throughput(block_s: Array, examples: int, confidence: float = CONFIDENCE) -> Estimate | None:
    """Estimate the examples per second, with an interval from the means of batches of consecutive blocks.

    Args:
        block_s: How long each block took, `[blocks]`.
        examples: How many examples a block answered.
        confidence: Of the interval, with equal tails.

    Returns:
        The figure, or None with fewer than three blocks.

    Source: S. Asmussen, P. W. Glynn, Stochastic Simulation (2007), section IV.5, for batch means.
    """
    from scipy.stats import t

    if len(block_s) < 3:
        return None
    batches = min(len(block_s), _PIECES)
    means = [float(np.mean(batch)) for batch in np.array_split(block_s, batches)]
    mean_s = float(np.mean(block_s))
    half_width_s = float(np.std(means, ddof=1)) / math.sqrt(batches) * float(t.ppf((1 + confidence) / 2, batches - 1))
    upper = examples / (mean_s - half_width_s) if half_width_s < mean_s else math.inf
    return Estimate(examples / mean_s, examples / (mean_s + half_width_s), upper, confidence)


def judge_minimum(found: Estimate, minimum: float) -> Verdict:
    """Judge `found >= minimum` by the side of the limit on which the whole interval lies."""
    if found.lower >= minimum:
        return "pass"
    return "fail" if found.upper < minimum else "undecided"


def judge_maximum(found: Estimate, maximum: float) -> Verdict:
    """Judge `found <= maximum` by the side of the limit on which the whole interval lies."""
    if found.upper <= maximum:
        return "pass"
    return "fail" if found.lower > maximum else "undecided"


def relative_iqr(blocks: Array) -> float:
    """Return how uneven a run was: the interquartile range of its blocks' medians over their median; 0.02 is calm.

    Args:
        blocks: Latencies `[blocks, block]`.
    """
    low, middle, high = np.quantile(np.median(blocks, axis=1), [0.25, 0.5, 0.75])
    return float((high - low) / middle)


def _percentiles(drawn: Array, percentile: float) -> Array:
    """Return the percentile of each draw; `drawn` is `[draws, rounds, block]`."""
    flat = drawn.reshape(len(drawn), -1)
    rank = max(math.ceil(round(flat.shape[1] * percentile / 100, 9)), 1) - 1
    ranked: Array = np.partition(flat, rank, axis=1)[:, rank]
    return ranked
