"""Lowering of StableHLO's operations to TensorFlow's: a family of operations a file, found by `registry.FAMILIES`."""
