"""Partition of a model into parts before, in and after the engine."""
