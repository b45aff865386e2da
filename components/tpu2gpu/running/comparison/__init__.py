"""Comparison of the outputs of two models."""
