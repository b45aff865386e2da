"""When a measurement ends."""

from __future__ import annotations

import numpy as np
import pytest

from tpu2gpu.latency_evaluator.measure.load import Load, measure
from tpu2gpu.latency_evaluator.measure.stability import not_converged
from tpu2gpu.latency_evaluator.measure.timing import time_scenarios
from tpu2gpu.latency_evaluator.options import EvaluateOptions


def test_three_windows_within_ten_percent_have_converged():
    assert not_converged({"p50": [9.0, 1.0, 1.05, 1.09], "throughput": [5.0, 5.0, 5.0]}) is None
    assert not_converged({"p50": [1.0, 1.0], "throughput": [5.0]}) == "there are fewer than 3 windows"


def test_the_figure_that_differs_most_is_named():
    difference = not_converged({"p99 of the candidate": [1.0, 1.2, 1.5], "the throughput": [1.0, 1.2, 1.0]})
    assert difference == "the last 3 windows still differ by 50 % in p99 of the candidate"


class Scripted:
    """A model whose latency follows a script, block by block."""

    label, runs = "candidate", True

    def __init__(self, latency_ns):
        self.latency_ns, self.blocks = latency_ns, 0

    def ask(self, doing, method, *, count, **arguments):
        self.blocks += 1
        return [self.latency_ns(self.blocks)] * count


def measured(latency_ns, **changes):
    given = {"requests": 90, "max_requests": 300, "block_requests": 10, "batch_size": 1, "warm_up_requests": 10}
    load = Load(**{**given, "percentile": 50.0, "seed": 0, **changes})
    return measure([Scripted(latency_ns)], load, lambda *told: None)


def test_a_steady_model_is_asked_as_often_as_wanted():
    found = measured(lambda block: 1000)
    assert found.latency_ns["candidate"].shape == (9, 10)
    assert found.ending.stable
    assert found.ending.why == "the last 3 windows agreed within 10 % in throughput and p50"


def test_a_model_that_converges_late_is_asked_until_it_has():
    found = measured(lambda block: 5000 if block <= 5 else 1000)
    assert found.latency_ns["candidate"].shape == (15, 10)  # windows of three blocks: the first two are out of the way
    assert found.ending.stable
    assert np.all(found.latency_ns["candidate"][5:] == 1000)


def test_a_model_that_never_converges_is_asked_up_to_the_limit_and_the_reason_is_kept():
    found = measured(lambda block: 1000 * block)
    assert found.latency_ns["candidate"].shape == (30, 10)
    assert not found.ending.stable
    assert found.ending.why.startswith("the limit of 300 requests was reached: the last 3 windows still differ by")


class Steady:
    """A model that takes a microsecond for everything."""

    label, runs = "candidate", True

    def ask(self, doing, method, *, count=0, **arguments):
        if method == "latency_breakdown_ms":
            return {}
        latencies_ns = [1000] * count
        return (
            latencies_ns
            if method == "time_requests"
            else {"latencies_ns": latencies_ns, "elapsed_ns": 10**6, "concurrency": 1}
        )


@pytest.mark.parametrize(("budgets", "percentile"), [({}, "p50"), ({"max_server_p99_ms": 1.0}, "p99")])
def test_a_server_under_load_must_converge_in_the_percentile_that_has_a_budget(budgets, percentile):
    load = Load(90, 90, 10, 1, 10, 50.0, 0)
    options = EvaluateOptions(scenario=("server",), **budgets)
    timed = time_scenarios([Steady()], load, options, lambda *told: None)
    assert timed.scenarios("candidate")["server"].ending.why.endswith(f"throughput and {percentile}")
    assert timed.scenarios("candidate")["single_stream"].ending.why.endswith("throughput and p50")
