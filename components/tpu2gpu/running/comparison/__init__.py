"""Comparison of the outputs of two models.

- parity: the differences of each output
- error_sketch: the same in a record that adds up, part by part
- detections: boxes of detectors, matched in place of compared
- signatures: inputs and outputs of two models
- variety: how much outputs, examples and labels vary, without which agreement proves nothing
- tolerances: the relative errors that are allowed at each number type
"""
