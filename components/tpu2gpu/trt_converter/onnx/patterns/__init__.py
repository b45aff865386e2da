"""Formulas that a graph writes out, and that ONNX, ONNX Runtime or engines know by name.

terms: what a tensor is, as a sum of products. layer_norm, gelu: one formula each, however it is written.
"""
