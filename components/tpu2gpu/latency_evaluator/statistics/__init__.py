"""Statistics of latencies and shares: intervals, and tests of budgets.

- intervals: percentiles, speed-up and throughput with their intervals, and the tests on them
- batch_means: percentiles of requests that depend on each other
"""
