"""The open loop: requests go out at their times, waiting counts, and what is reported covers the truth."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from tpu2gpu.latency_evaluator.measure.arrivals import poisson_arrivals_ns, send
from tpu2gpu.latency_evaluator.statistics.batch_means import estimate_dependent, variance_inflation
from tpu2gpu.latency_evaluator.statistics.intervals import estimate_percentile

MS = 1_000_000


class SimulatedClock:
    """Time that passes when somebody waits or works."""

    def __init__(self):
        self.time_ns = 0

    def now_ns(self):
        return self.time_ns

    def wait_until(self, instant_ns):
        self.time_ns = max(self.time_ns, instant_ns)

    def work(self, duration_ns):
        self.time_ns += int(duration_ns)


def simulated_window(clock, seed, requests, utilisation, service_ns=MS):
    """One window of a server whose service times are exponential, sent by the real generator."""
    rewarm = requests // 10
    services = np.random.default_rng(seed).exponential(service_ns, rewarm + requests)
    arrivals = poisson_arrivals_ns(rewarm + requests, utilisation * 1e9 / service_ns, seed + 1_000_000)
    return send(clock.work, services, arrivals, clock=clock)[0][rewarm:]


def test_arrivals_are_those_of_a_poisson_process():
    gaps_ns = np.diff(poisson_arrivals_ns(20_000, 250.0, seed=1), prepend=0)
    assert np.mean(gaps_ns) == pytest.approx(4 * MS, rel=0.03)
    assert np.std(gaps_ns) == pytest.approx(4 * MS, rel=0.03)
    np.testing.assert_array_equal(poisson_arrivals_ns(50, 10.0, 3), poisson_arrivals_ns(50, 10.0, 3))


def test_a_stall_counts_for_all_requests_that_it_delays():
    clock = SimulatedClock()
    services_ns = [MS] * 100
    services_ns[10] = 50 * MS  # 50 ms of stall, while one request a 2 ms arrives
    latencies_ns, last_ns = send(clock.work, services_ns, np.arange(100) * 2 * MS, clock=clock)
    assert latencies_ns[:10].tolist() == [MS] * 10
    assert latencies_ns[10:13].tolist() == [50 * MS, 49 * MS, 48 * MS]
    assert np.sum(latencies_ns > 10 * MS) == 40  # one, had latency been counted from the real sending
    assert last_ns == 199 * MS


def test_without_pauses_between_arrivals_the_last_answer_gives_the_throughput():
    clock = SimulatedClock()
    latencies_ns, last_ns = send(clock.work, [2 * MS], np.zeros(50, np.int64), clock=clock)
    assert last_ns == 100 * MS
    assert latencies_ns.tolist() == [2 * MS * (number + 1) for number in range(50)]


def test_several_senders_keep_as_many_requests_under_way_and_each_goes_out_once():
    lock, seen, under_way, most = threading.Lock(), [], 0, 0

    def run(request):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
            seen.append(request)
        time.sleep(0.01)
        with lock:
            under_way -= 1

    latencies_ns, last_ns = send(run, list(range(40)), np.zeros(40, np.int64), concurrency=4)
    assert sorted(seen) == list(range(40))
    assert most == 4
    assert last_ns >= 100 * MS
    assert np.all(latencies_ns > 0)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_request_that_fails_ends_the_loop_with_its_error(concurrency):
    def run(request):
        if request == 5:
            raise ValueError("no answer to 5")

    with pytest.raises(ValueError, match="no answer to 5"):
        send(run, list(range(100)), np.zeros(100, np.int64), concurrency=concurrency)


def test_nothing_is_sent_before_its_time():
    sent_s = []
    start_s = time.perf_counter()
    send(lambda request: sent_s.append(time.perf_counter() - start_s), [0], np.arange(1, 21) * 2 * MS)
    early = np.asarray(sent_s) - np.arange(1, 21) * 2e-3
    assert np.all(early >= 0)


def test_reported_percentiles_cover_the_truth_at_the_promised_rate():
    """In an M/M/1 queue the time in the system is exponential: every percentile is known.

    120 runs each at 95 %: fewer than 107 hits would come up in 1 of 1000 such tests. Intervals that take requests as
    independent cover far less: that is what the dependence is measured for.
    """
    runs, requests, hits, naive = 120, 1000, dict.fromkeys((50, 90, 95), 0), 0
    clock = SimulatedClock()
    for run in range(runs):
        windows = np.stack([simulated_window(clock, 10 * run + i, requests, utilisation=0.5) for i in range(3)])
        for percentile in hits:
            truth_ns = -np.log(1 - percentile / 100) * MS / (1 - 0.5)
            estimate = estimate_dependent(windows, percentile)
            hits[percentile] += estimate is not None and estimate.lower <= truth_ns <= estimate.upper
        independent = estimate_percentile(windows.ravel(), 90)
        naive += independent.lower <= -np.log(0.1) * 2 * MS <= independent.upper
    assert min(hits.values()) >= 107, hits
    assert naive < 90


def test_a_percentile_in_the_tail_of_a_queue_needs_more_requests_than_one_of_independent_ones():
    clock = SimulatedClock()
    windows = np.stack([simulated_window(clock, seed, 300, utilisation=0.7) for seed in range(3)])
    assert estimate_percentile(windows.ravel(), 99) is not None
    assert estimate_dependent(windows, 99) is None


def test_independent_requests_lose_little():
    windows = np.random.default_rng(2).exponential(size=(3, 2000))
    assert variance_inflation(windows, 95) < 2.5
    assert variance_inflation(np.ones((3, 2000)), 95) == 1.0
