"""Shapes of tensors, and how the batch goes through a graph."""
