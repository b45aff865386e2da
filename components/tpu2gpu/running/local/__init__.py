"""Runners of models in this process."""
