"""What a sample of latencies allows to say, and what not.

Percentiles are order statistics, never interpolated and never averaged; their intervals assume no distribution, only
that requests are independent of each other. Interleaved blocks and the noise figure of the measurement keep that
honest; the ratio of two models is bootstrapped over rounds of blocks, which assumes less.

Source: H. A. David, H. N. Nagaraja, Order Statistics (3rd ed., 2003), section 7.1, for the intervals; MLPerf LoadGen,
`early_stopping.cc`, for the budget rule.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import attrs
import numpy as np
import numpy.typing as npt

Verdict = Literal["pass", "fail", "undecided"]
Array = npt.NDArray[Any]

CONFIDENCE = 0.95
PERCENTILES = (50.0, 90.0, 95.0, 99.0)
_BOOTSTRAP_ROUNDS = 2000
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
    """Whether a percentile keeps a limit.

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
    """The order statistics (from 1) between which a percentile lies, with equal tails.

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
    """The smallest latency that at least `percentile` % of the sample do not exceed."""
    rank = math.ceil(round(len(ordered) * percentile / 100, 9))
    return float(ordered[max(rank, 1) - 1])


def estimate_percentile(latencies: Array, percentile: float, confidence: float = CONFIDENCE) -> Estimate | None:
    """A percentile with its interval, or None where the sample is too small to bound it from both sides."""
    lower, upper = interval_ranks(len(latencies), percentile, confidence)
    if lower is None or upper is None:
        return None
    ordered = np.sort(latencies)
    return Estimate(
        percentile_of(ordered, percentile), float(ordered[lower - 1]), float(ordered[upper - 1]), confidence
    )


def needed_requests(exceedances: int, percentile: float, confidence: float = CONFIDENCE) -> int:
    """The fewest requests that allow to claim a percentile's limit when so many of them exceeded it.

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


def judge_percentile(
    latencies: Array, percentile: float, limit: float, confidence: float = CONFIDENCE
) -> BudgetVerdict:
    """Judges `percentile of the latency <= limit` by how many requests exceeded the limit, exactly.

    Pass: were the limit broken, so few exceedances would come up in less than 1 - `confidence` of such runs.
    Fail: were it kept, so many would. Both tests are one-sided.
    """
    from scipy.stats import binom

    requests = len(latencies)
    exceedances = int(np.sum(latencies > limit))
    rate = 1 - percentile / 100
    verdict: Verdict = "undecided"
    if binom.cdf(exceedances, requests, rate) <= 1 - confidence:
        verdict = "pass"
    elif binom.sf(exceedances - 1, requests, rate) <= 1 - confidence:
        verdict = "fail"
    return BudgetVerdict(verdict, exceedances, requests, needed_requests(exceedances, percentile, confidence))


def speedup(
    baseline: Array, candidate: Array, percentile: float, *, seed: int = 0, confidence: float = CONFIDENCE
) -> Estimate | None:
    """The baseline's percentile over the candidate's, with a bootstrap interval over rounds.

    A round is one block of each model, measured next to each other; rounds are drawn with replacement, both models'
    blocks together, so that slow drifts of the machine cancel instead of widening or faking the ratio.

    Args:
        baseline: Latencies `[rounds, block]`.
        candidate: Latencies `[rounds, block]` of the same rounds.
        percentile: Which one to compare.
        seed: For the draws.
        confidence: Of the interval, with equal tails.

    Returns:
        The ratio, or None with fewer than five rounds or where the percentile itself cannot be bounded.

    Source: A. C. Davison, D. V. Hinkley, Bootstrap Methods and their Application (1997), section 5.3 (percentile
    method) and 8.2 (blocks).
    """
    rounds = len(baseline)
    if rounds < 5 or None in (*interval_ranks(baseline.size, percentile), *interval_ranks(candidate.size, percentile)):
        return None
    rng = np.random.default_rng(seed)
    at_once = max(1, _BOOTSTRAP_ELEMENTS // max(baseline.size, candidate.size))
    ratios = []
    for start in range(0, _BOOTSTRAP_ROUNDS, at_once):
        draws = rng.integers(rounds, size=(min(at_once, _BOOTSTRAP_ROUNDS - start), rounds))
        ratios.append(_percentiles(baseline[draws], percentile) / _percentiles(candidate[draws], percentile))
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    value = percentile_of(np.sort(baseline, axis=None), percentile)
    value /= percentile_of(np.sort(candidate, axis=None), percentile)
    return Estimate(value, float(lower), float(upper), confidence)


def judge_speedup(ratio: Estimate, minimum: float) -> Verdict:
    """Judges `ratio >= minimum` by the side of the limit on which the whole interval lies."""
    if ratio.lower >= minimum:
        return "pass"
    return "fail" if ratio.upper < minimum else "undecided"


def block_spread(blocks: Array) -> float:
    """How uneven a run was: the quartile distance of its blocks' medians over their median; 0.02 is calm.

    Args:
        blocks: Latencies `[blocks, block]`.
    """
    low, middle, high = np.quantile(np.median(blocks, axis=1), [0.25, 0.5, 0.75])
    return float((high - low) / middle)


def _percentiles(drawn: Array, percentile: float) -> Array:
    """The percentile of each draw; `drawn` is `[draws, rounds, block]`."""
    flat = drawn.reshape(len(drawn), -1)
    rank = max(math.ceil(round(flat.shape[1] * percentile / 100, 9)), 1) - 1
    ranked: Array = np.partition(flat, rank, axis=1)[:, rank]
    return ranked
