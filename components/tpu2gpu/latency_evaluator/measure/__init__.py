"""Measurement: processes, load, timing."""
