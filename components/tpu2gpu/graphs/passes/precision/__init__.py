"""Rewrites between floating-point types."""
