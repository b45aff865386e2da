"""Passes that take training out of a graph."""
