"""Intervals and tests on latencies."""
