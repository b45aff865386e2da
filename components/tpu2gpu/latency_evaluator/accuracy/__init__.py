"""Outputs held against the baseline and against labels."""
