"""Measurement: each model in its own process, the load that is sent to it, and its latencies.

- model_process: the parent's side of a model's process
- model_under_test: the child's side
- model_dtype: the number type that a model computes in
- load: warm-up, and the single-stream closed loop
- arrivals: the open loop, with times of arrival drawn beforehand
- scenarios: server, offline, and single-stream by batch size
- stability: when a measurement has converged
- timing: all measurements of an evaluation, and each model's figures in them
- histograms: latencies as HDR histograms
"""
