"""The parts of a request on a GPU, with a driver that keeps a clock in place of one."""

from __future__ import annotations

import pytest

from tpu2gpu.hardware.cuda import Stream
from tpu2gpu.running.local.gpu_breakdown import GpuBreakdown


class Clockwork:
    """Answers the driver's calls for events: each records the time that the test has set."""

    def __init__(self):
        self.now_ms, self.made, self.recorded = 0.0, 0, {}

    def call(self, function, *arguments):
        if function in ("cuEventCreate", "cuStreamCreate"):
            self.made += 1
            arguments[0]._obj.value = self.made
        elif function == "cuEventRecord":
            self.recorded[arguments[0].value] = self.now_ms
        elif function == "cuEventElapsedTime":
            elapsed, begin, end = arguments
            elapsed._obj.value = self.recorded[end.value] - self.recorded[begin.value]


def test_the_parts_are_means_over_requests_and_the_hosts_pause_is_none_of_them():
    driver = Clockwork()
    stream, breakdown = Stream(driver), GpuBreakdown(driver)
    for compute_ms in (5.0, 7.0):
        breakdown.restart()
        for moment_ms in (0.0, 1.0, 3.0, 3.0 + compute_ms, 3.5 + compute_ms):
            driver.now_ms = 100.0 + moment_ms
            breakdown.mark(stream)
        breakdown.add()
    assert breakdown.take_ms() == pytest.approx({"copy_in": 1.0, "compute": 6.0, "copy_out": 0.5})
    assert breakdown.take_ms() == {}


def test_a_request_that_failed_half_way_leaves_nothing_behind():
    driver = Clockwork()
    stream, breakdown = Stream(driver), GpuBreakdown(driver)
    breakdown.mark(stream)
    breakdown.restart()
    for moment_ms in (0.0, 1.0, 1.0, 4.0, 5.0):
        driver.now_ms = moment_ms
        breakdown.mark(stream)
    breakdown.add()
    assert breakdown.take_ms() == pytest.approx({"copy_in": 1.0, "compute": 3.0, "copy_out": 1.0})
